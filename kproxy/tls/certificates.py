"""Whether a certificate and its key will do, and for which names. Pure: text in, facts out, or a
sentence that says what is wrong.

What is wrong is said in the words of whoever has to put it right. No message quotes what it is
about: keys must not be seen, and whoever has mixed up two secrets has a key where a certificate
should be.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import NameOID

from kproxy.snapshot import Certificate
from kproxy.tls.checked import CertificateError, Checked, day

SMALLEST_RSA = 2048
"""Bits; OpenSSL serves nothing smaller."""

_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
_WEAK_HASHES = ("md5", "sha1")


def check(
    chain: str,
    key: str,
    now: datetime,
    chain_name: str = "the certificate",
    key_name: str = "the key",
) -> Checked:
    """Look whether a certificate can be served with a key.

    @param chain: PEM, the server's own certificate first, then each one's issuer.
    @param key: PEM, not encrypted.
    @param now: in UTC.
    @param chain_name: what messages call the chain: ``the secret CERTIFICATE``.
    @param key_name: what messages call the key.
    @raise CertificateError: it can't.
    """
    certificates = _parse_chain(chain, chain_name)
    private = _parse_key(key, key_name)
    try:
        _check_leaf(certificates, _public_bytes(private.public_key()), chain_name, key_name)
        _check_order(certificates, chain_name)
        for certificate in certificates:
            _check_one(certificate, certificate is certificates[0], now, chain_name)
        names = _names(certificates[0])
    except CertificateError:
        raise
    except Exception:
        # Parts are parsed when they are looked at, and cryptography's errors have no common base.
        raise CertificateError(f"{chain_name} has a part that can't be read") from None
    return Checked(
        Certificate(_pem_blocks(chain, "CERTIFICATE"), _key_block(key) + "\n"),
        names,
        min(certificate.not_valid_after_utc for certificate in certificates),
    )


def _parse_chain(text: str, name: str) -> list[x509.Certificate]:
    _refuse_escapes(text, name)
    blocks = _pem_blocks(text, "CERTIFICATE")
    if not blocks:
        if _key_block(text):
            raise CertificateError(f"{name} holds a private key, and should hold a certificate")
        raise CertificateError(f"{name} holds no certificate in PEM form{_hint(text)}")
    try:
        return x509.load_pem_x509_certificates(blocks.encode())
    except Exception:  # as above: InvalidVersion, for one, is no ValueError
        raise CertificateError(f"{name} can't be read: it looks like PEM, but is damaged") from None


def _parse_key(text: str, name: str) -> Any:
    _refuse_escapes(text, name)
    block = _key_block(text)
    if not block:
        if _pem_blocks(text, "CERTIFICATE"):
            raise CertificateError(f"{name} holds a certificate, and should hold a private key")
        raise CertificateError(f"{name} holds no private key in PEM form{_hint(text)}")
    # An encrypted key of the old form says so in a header of its own, inside the block.
    if "BEGIN ENCRYPTED PRIVATE KEY" in block or "Proc-Type: 4,ENCRYPTED" in block:
        raise CertificateError(
            f"{name} is encrypted, and there is nobody to ask for its passphrase; "
            "`openssl pkey -in KEY` writes it without one"
        )
    try:
        key = serialization.load_pem_private_key(block.encode(), password=None)
    except Exception:  # as above
        raise CertificateError(f"{name} can't be read: it looks like PEM, but is damaged") from None
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size < SMALLEST_RSA:
        raise CertificateError(
            f"{name} is an RSA key of {key.key_size} bits, and needs at least {SMALLEST_RSA}"
        )
    served = (
        rsa.RSAPrivateKey,
        ec.EllipticCurvePrivateKey,
        ed25519.Ed25519PrivateKey,
        ed448.Ed448PrivateKey,
    )
    if not isinstance(key, served):
        raise CertificateError(f"{name} is of a kind that TLS has no use for; use ECDSA or RSA")
    return key


def _refuse_escapes(text: str, name: str) -> None:
    if "-----BEGIN" in text and "\\n" in text:
        raise CertificateError(f"{name} has \\n where it should have line breaks")


def _key_block(text: str) -> str:
    """The first private key, without what may be around it, as ``EC PARAMETERS``."""
    found = (found[0] for found in _BLOCK.finditer(text) if found[1].endswith("PRIVATE KEY"))
    return next(found, "")


def _hint(text: str) -> str:
    """What may have gone wrong on the way from a file to a variable."""
    if not text.strip():
        return "; it is empty"
    if "-----BEGIN" in text:
        return "; it begins well, but breaks off: values of several lines need quotes"
    return ""


def _check_leaf(
    certificates: Sequence[x509.Certificate], public: bytes, chain_name: str, key_name: str
) -> None:
    """The key has to be that of the first certificate."""
    owned = [_public_bytes(certificate.public_key()) == public for certificate in certificates]
    if owned[0]:
        return
    if any(owned):
        title = _title(certificates[owned.index(True)])
        raise CertificateError(
            f"{chain_name} is in the wrong order: the certificate of {title}, which the key belongs "
            "to, has to come first"
        )
    raise CertificateError(
        f"{key_name} does not belong to {chain_name}, which is for {_title(certificates[0])}"
    )


def _check_order(certificates: Sequence[x509.Certificate], name: str) -> None:
    """Each certificate has to be followed by that of its issuer (RFC 8446 section 4.4.2)."""
    for certificate, following in pairwise(certificates):
        if _issued(certificate, following):
            continue
        if any(_issued(certificate, other) for other in certificates if other is not certificate):
            raise CertificateError(
                f"{name} is in the wrong order: behind {_title(certificate)} has to come its issuer, "
                f"{_title_of(certificate.issuer)}, and not {_title(following)}"
            )
        raise CertificateError(
            f"{name} has a certificate that does not belong there: {_title(following)} did not issue "
            f"{_title(certificate)}"
        )


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _check_one(certificate: x509.Certificate, first: bool, now: datetime, name: str) -> None:
    whose = "" if first else f": its issuer {_title(certificate)}"
    if certificate.not_valid_after_utc <= now:
        raise CertificateError(f"{name} expired on {day(certificate.not_valid_after_utc)}{whose}")
    if certificate.not_valid_before_utc > now:
        since = _moment(certificate.not_valid_before_utc)
        raise CertificateError(f"{name} is not valid before {since}{whose}")
    algorithm = certificate.signature_hash_algorithm
    self_signed = certificate.issuer == certificate.subject
    if algorithm is not None and algorithm.name in _WEAK_HASHES and not self_signed:
        raise CertificateError(
            f"{name} is signed with {algorithm.name}, which nobody trusts{whose}"
        )


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    """Of the subject alternative names only, as clients do (RFC 9525 section 2)."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    found = (name.lower().rstrip(".") for name in names.get_values_for_type(x509.DNSName))
    return tuple(dict.fromkeys(found))


def _title(certificate: x509.Certificate) -> str:
    names = _names(certificate)
    return names[0] if names else _title_of(certificate.subject)


def _title_of(name: x509.Name) -> str:
    common = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    text = str(common[0].value) if common else name.rfc4514_string()
    return f'"{" ".join(text.split())}"'


def _public_bytes(key: Any) -> bytes:
    data: bytes = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return data


def _pem_blocks(text: str, kind: str) -> str:
    """The blocks of a kind, without what people write between them."""
    return "".join(f"{found[0]}\n" for found in _BLOCK.finditer(text) if found[1] == kind)


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
