"""The certificate that every proxy shows: self-signed, for an ECDSA P-256 key."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Where it is."""

    certificate: Path
    key: Path
    both: Path
    """The certificate and its key in one file, as HAProxy wants them."""


def make_certificate(folder: Path, name: str) -> CertificateFiles:
    """Make a certificate for a host name, in a folder."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(timezone.utc)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=60))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public = certificate.public_bytes(serialization.Encoding.PEM)
    files = CertificateFiles(folder / "cert.pem", folder / "key.pem", folder / "both.pem")
    files.certificate.write_bytes(public)
    files.key.write_bytes(private)
    files.both.write_bytes(public + private)
    return files
