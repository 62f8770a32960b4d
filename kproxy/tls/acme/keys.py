"""Keys, requests and certificates: pure functions."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kproxy.snapshot import Certificate

_ACME_IDENTIFIER = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")
_OCTET_STRING_32 = b"\x04\x20"
"""How DER begins a string of 32 octets."""

PrivateKey = ec.EllipticCurvePrivateKey


def new_key() -> PrivateKey:
    """ECDSA on P-256: what every client takes, at a fraction of RSA's cost for a server."""
    return ec.generate_private_key(ec.SECP256R1())


def key_to_pem(key: PrivateKey) -> str:
    """PKCS #8, not encrypted."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def signing_request(name: str, key: PrivateKey) -> bytes:
    """A PKCS #10 request for one name, in DER. The subject stays empty: a common name has at most 64
    characters, and nobody reads it any more."""
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.DER)
    )


def challenge_certificate(name: str, key_authorization: str, now: datetime) -> Certificate:
    """What proves to a CA over ``acme-tls/1`` that a name is ours (RFC 8737 section 3)."""
    key = new_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "acme-tls/1")])
    digest = hashlib.sha256(key_authorization.encode("ascii")).digest()
    proof = x509.UnrecognizedExtension(_ACME_IDENTIFIER, _OCTET_STRING_32 + digest)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=7))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(proof, critical=True)
        .sign(key, hashes.SHA256())
    )
    chain = certificate.public_bytes(serialization.Encoding.PEM).decode()
    return Certificate(chain, key_to_pem(key))


@dataclass(frozen=True, slots=True)
class Kept:
    """A certificate, and what has to be known to look after it."""

    certificate: Certificate
    name: str
    """The first that it is for."""
    begins: float
    """Seconds since 1970, as `ends`."""
    ends: float


def understood(certificate: Certificate) -> Kept:
    """@raise ValueError: it can't be read, or the key is not its own; nothing of the key is said."""
    try:
        leaf = x509.load_pem_x509_certificates(certificate.chain.encode())[0]
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        name = names.get_values_for_type(x509.DNSName)[0]
    except (ValueError, IndexError, x509.ExtensionNotFound):
        raise ValueError("there is no certificate for a host name in it") from None
    try:
        key = serialization.load_pem_private_key(certificate.key.encode(), None)
    except (ValueError, TypeError):
        raise ValueError("there is no private key in it") from None
    if key.public_key() != leaf.public_key():
        raise ValueError("its private key belongs to another certificate")
    begins, ends = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    return Kept(certificate, name, begins.timestamp(), ends.timestamp())


def leaf_of(chain: str) -> str:
    """The first certificate of a chain."""
    end = "-----END CERTIFICATE-----"
    return chain.partition(end)[0] + end + "\n"
