"""What is signed, and how (RFC 8555 section 6.2, RFC 7515)."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from josepy.b64 import b64decode
from josepy.jwa import ES256
from josepy.jwk import JWK

from kproxy.tls.acme.errors import AcmeError
from kproxy.tls.acme.jws import AccountKey

URL = "https://ca.example/newOrder"


def opened(body: bytes) -> tuple[dict[str, Any], Any, dict[str, str]]:
    """Header and payload of a JWS, and the JWS itself."""
    jws = json.loads(body)
    assert set(jws) == {"protected", "payload", "signature"}
    payload = b64decode(jws["payload"])
    return json.loads(b64decode(jws["protected"])), json.loads(payload) if payload else None, jws


def test_a_request_of_an_account_names_it_by_its_url() -> None:
    body = AccountKey.generate().sign({"a": 1}, url=URL, nonce="n", account_url="https://ca/acct/1")
    head, payload, _ = opened(body)
    assert head == {"alg": "ES256", "kid": "https://ca/acct/1", "nonce": "n", "url": URL}
    assert payload == {"a": 1}


def test_a_request_without_an_account_carries_the_public_key_and_nothing_else() -> None:
    key = AccountKey.generate()
    head, _, _ = opened(key.sign({}, url=URL, nonce="n", account_url=None))
    assert set(head) == {"alg", "jwk", "nonce", "url"}
    assert set(head["jwk"]) == {"kty", "crv", "x", "y"}
    assert (head["jwk"]["kty"], head["jwk"]["crv"]) == ("EC", "P-256")


def test_the_signature_is_that_of_header_and_payload() -> None:
    key = AccountKey.generate()
    head, _, jws = opened(key.sign({"a": 1}, url=URL, nonce="n", account_url=None))
    public = JWK.from_json(head["jwk"]).key
    signed = f"{jws['protected']}.{jws['payload']}".encode()
    signature = b64decode(jws["signature"])
    assert len(signature) == 64
    assert ES256.verify(public, signed, signature)


def test_a_post_as_get_has_an_empty_payload() -> None:
    _, _, jws = opened(AccountKey.generate().sign(None, url=URL, nonce="n", account_url="x"))
    assert jws["payload"] == ""


def test_an_external_account_signs_our_public_key() -> None:
    key = AccountKey.generate()
    binding = key.bind("kid-1", "c2VjcmV0IQ==", URL)
    assert json.loads(b64decode(binding["protected"])) == {
        "alg": "HS256",
        "kid": "kid-1",
        "url": URL,
    }
    assert json.loads(b64decode(binding["payload"])) == key.public()
    signed = f"{binding['protected']}.{binding['payload']}".encode()
    expected = hmac.digest(b"secret!", signed, hashlib.sha256)
    assert b64decode(binding["signature"]) == expected


@pytest.mark.parametrize("text", ["ä", "a", "with space!"])
def test_a_key_of_an_external_account_that_is_no_base64url_is_an_error_without_it(
    text: str,
) -> None:
    with pytest.raises(AcmeError, match=r"^the HMAC key of the external account is not base64url$"):
        AccountKey.generate().bind("kid-1", text, URL)


def test_a_key_survives_being_written_down() -> None:
    key = AccountKey.generate()
    assert AccountKey.from_pem(key.to_pem()).public() == key.public()


def pem(key: Any) -> str:
    data: bytes = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return data.decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        pem(ec.generate_private_key(ec.SECP384R1())),
        pem(rsa.generate_private_key(65537, 2048)),
    ],
    ids=["nothing", "nonsense", "P-384", "RSA"],
)
def test_a_key_of_another_kind_is_refused_without_being_quoted(text: str) -> None:
    with pytest.raises(ValueError, match=r"^the account key is not") as caught:
        AccountKey.from_pem(text)
    assert "PRIVATE KEY" not in str(caught.value)


def test_its_repr_tells_nothing_of_a_key() -> None:
    key = AccountKey.generate()
    private = b64decode(key.public()["x"])
    assert str(private) not in repr(key)
    assert "PRIVATE" not in repr(key) + repr(vars(key))
