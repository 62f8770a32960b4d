"""Real certificates, made on the spot: a CA with an intermediate, and what it issues."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: Any, passphrase: bytes | None = None) -> str:
    """A private key, PKCS #8."""
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        encryption = serialization.BestAvailableEncryption(passphrase)
    data: bytes = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )
    return data.decode()


@dataclass(frozen=True)
class Pair:
    """A certificate with its key, and with those that stand between it and the root."""

    certificate: str
    issuers: tuple[str, ...]
    key: str

    @property
    def chain(self) -> str:
        """PEM, the server's own certificate first."""
        return "".join((self.certificate, *self.issuers))


class Authority:
    """A CA: a root that clients trust, and the intermediate that issues.

    @param now: when its certificates are a year old.
    """

    def __init__(self, name: str = "Test", now: datetime | None = None) -> None:
        self.now = now or datetime.now(timezone.utc).replace(microsecond=0)
        self.root_key, self.key = new_key(), new_key()
        root_name, own_name = _name(f"{name} Root"), _name(f"{name} Intermediate")
        since, until = self.now - 365 * DAY, self.now + 3650 * DAY
        self._root = _signed(root_name, root_name, self.root_key, self.root_key, since, until)
        self._own = _signed(own_name, root_name, self.key, self.root_key, since, until)
        self.root, self.intermediate = _pem(self._root), _pem(self._own)

    def issue(
        self,
        *names: str,
        key: Any = None,
        since: datetime | None = None,
        until: datetime | None = None,
        common_name: str | None = None,
    ) -> Pair:
        """A certificate for names: valid since yesterday and for 90 days, unless it is said
        otherwise."""
        key = key or new_key()
        certificate = _signed(
            _name(common_name or (names[0] if names else "nobody")),
            self._own.subject,
            key,
            self.key,
            since or self.now - DAY,
            until or self.now + 90 * DAY,
            names,
        )
        return Pair(_pem(certificate), (self.intermediate,), key_pem(key))


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _signed(
    subject: x509.Name,
    issuer: x509.Name,
    key: Any,
    by: Any,
    since: datetime,
    until: datetime,
    names: Sequence[str] | None = None,
) -> x509.Certificate:
    """@param names: of a server; None: it is a CA."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(until)
        .add_extension(x509.BasicConstraints(names is None, None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), False)
    )
    if names is None:
        usage = dict.fromkeys(
            ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
            False,
        )
        usage |= dict.fromkeys(("key_agreement", "encipher_only", "decipher_only"), False)
        usage |= {"key_cert_sign": True, "crl_sign": True}
        builder = builder.add_extension(x509.KeyUsage(**usage), critical=True)
    elif names:
        alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        builder = builder.add_extension(alternatives, critical=False)
    return builder.sign(by, hashes.SHA256())
