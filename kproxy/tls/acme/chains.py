"""Certificate chains as a CA hands them out (RFC 8555 sections 7.4.2 and 9.1)."""

from __future__ import annotations

from collections.abc import Iterable

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from kproxy.tls.acme.errors import AcmeError, BadAnswer
from kproxy.tls.acme.jws import b64

_LONGEST = 10


def read_chain(text: bytes) -> list[x509.Certificate]:
    """The certificates of a chain, the server's own first.

    @raise BadAnswer: it is not a chain.
    """
    try:
        chain = x509.load_pem_x509_certificates(text)
    except ValueError:
        raise BadAnswer("the CA sent something that is not certificates in PEM") from None
    if len(chain) > _LONGEST:
        raise BadAnswer(f"the CA sent a chain of {len(chain)} certificates")
    return chain


def check_chain(chain: list[x509.Certificate], csr_der: bytes, names: Iterable[str]) -> None:
    """@raise BadAnswer: the first certificate is not the one that was asked for."""
    leaf = chain[0]
    if leaf.public_key() != x509.load_der_x509_csr(csr_der).public_key():
        raise BadAnswer("the CA sent a certificate for another key")
    missing = {name.lower() for name in names} - set(names_of(leaf))
    if missing:
        raise BadAnswer(f"the CA sent a certificate without {', '.join(sorted(missing))}")


def names_of(certificate: x509.Certificate) -> list[str]:
    """The host names that a certificate is for, in lower case."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return []
    return [name.lower() for name in found.value.get_values_for_type(x509.DNSName)]


def is_issued_by(chain: list[x509.Certificate], common_name: str) -> bool:
    """Whether the last certificate of a chain was issued by somebody of this name."""
    found = chain[-1].issuer.get_attributes_for_oid(NameOID.COMMON_NAME)
    return any(each.value == common_name for each in found)


def to_pem(chain: Iterable[x509.Certificate]) -> str:
    """Certificates and nothing else, whatever the CA wrote between them."""
    return "".join(each.public_bytes(Encoding.PEM).decode() for each in chain)


def load(certificate: str) -> x509.Certificate:
    """The first certificate of a PEM text.

    @raise AcmeError: there is none.
    """
    try:
        return x509.load_pem_x509_certificate(certificate.encode())
    except ValueError:
        raise AcmeError("that is not a certificate in PEM") from None


def renewal_id(certificate: x509.Certificate) -> str | None:
    """What a CA's renewal information knows a certificate by (RFC 9773 section 4.1).

    @return: None: it does not say who issued it.
    """
    try:
        extension = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    except (x509.ExtensionNotFound, ValueError):
        return None
    issuer = extension.value.key_identifier
    if issuer is None:
        return None
    serial = certificate.serial_number
    # As DER writes an integer: with a zero in front if it would look negative otherwise.
    number = serial.to_bytes(serial.bit_length() // 8 + 1, "big")
    return f"{b64(issuer)}.{b64(number)}"
