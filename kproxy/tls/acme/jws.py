"""Account keys, and what they sign (RFC 8555 section 6.2, RFC 7515)."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from josepy.b64 import b64encode
from josepy.jwa import ES256, HS256
from josepy.jwk import JWKEC

from kproxy.tls.acme.errors import AcmeError
from kproxy.tls.acme.keys import key_to_pem, new_key


class AccountKey:
    """The ECDSA P-256 key that an account at a CA is known by. Its ``repr()`` tells nothing."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key
        self.jwk = JWKEC(key=key.public_key())
        """The public half, which is what the challenges of `acme.challenges` take."""

    @classmethod
    def generate(cls) -> AccountKey:
        return cls(new_key())

    @classmethod
    def from_pem(cls, pem: str) -> AccountKey:
        """What `to_pem` made.

        @raise ValueError: it is something else; the message does not quote it.
        """
        try:
            key = serialization.load_pem_private_key(pem.encode(), password=None)
        except Exception:
            raise ValueError("the account key is not an unencrypted private key in PEM") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
            raise ValueError("the account key is not an ECDSA key on the curve P-256")
        return cls(key)

    def to_pem(self) -> str:
        """PKCS #8, not encrypted."""
        return key_to_pem(self._key)

    def sign(
        self, payload: Mapping[str, Any] | None, *, url: str, nonce: str, account_url: str | None
    ) -> bytes:
        """The body of a request.

        @param payload: None: the request is a POST-as-GET.
        @param account_url: who signs; None: there is no account yet, so the key itself is sent.
        """
        who: dict[str, Any]
        who = {"jwk": self.public()} if account_url is None else {"kid": account_url}
        protected = {"alg": "ES256", **who, "nonce": nonce, "url": url}
        body = b"" if payload is None else _json(payload)

        def signature(data: bytes) -> bytes:
            return ES256.sign(self._key, data)

        return _json(_flattened(protected, body, signature))

    def public(self) -> dict[str, Any]:
        """The public half as a JWK."""
        jwk: dict[str, Any] = self.jwk.to_json()
        return jwk

    def bind(self, key_id: str, hmac_key: str, url: str) -> dict[str, str]:
        """Tie this key to an account that the CA gave out of band (RFC 8555 section 7.3.4).

        @param hmac_key: in base64url, with or without padding, as CAs hand it out.
        @param url: of the directory's newAccount.
        @raise AcmeError: the HMAC key can't be decoded.
        """
        text = hmac_key.strip().rstrip("=").replace("-", "+").replace("_", "/")
        try:
            secret = b64decode(text + "=" * (-len(text) % 4), validate=True)
        except ValueError:
            raise AcmeError("the HMAC key of the external account is not base64url") from None

        def signature(data: bytes) -> bytes:
            return HS256.sign(secret, data)

        protected = {"alg": "HS256", "kid": key_id, "url": url}
        return _flattened(protected, _json(self.public()), signature)


def _flattened(protected: Mapping[str, Any], payload: bytes, signature: Any) -> dict[str, str]:
    """A JWS in the flattened JSON serialization, the only one that CAs take."""
    head, body = b64(_json(protected)), b64(payload)
    return {
        "protected": head,
        "payload": body,
        "signature": b64(signature(f"{head}.{body}".encode())),
    }


def b64(data: bytes) -> str:
    """Base64url without padding."""
    return b64encode(data).decode()


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
