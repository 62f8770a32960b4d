"""What a CA hands out, and what renewal information knows it by."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from kproxy.tls.acme.chains import check_chain, is_issued_by, read_chain, renewal_id, to_pem
from kproxy.tls.acme.errors import BadAnswer
from tests.support.certificates import Authority, Pair

NAMES = ["a.example", "*.b.example"]


@pytest.fixture(scope="module")
def pair() -> Pair:
    return Authority().issue(*NAMES)


def request(key: ec.EllipticCurvePrivateKey) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def request_of(pair: Pair) -> bytes:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = load_pem_private_key(pair.key.encode(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return request(key)


def test_a_chain_is_read_in_its_order_and_written_without_what_stands_between(pair: Pair) -> None:
    text = "hello\n" + "\nnothing\n".join((pair.certificate, *pair.issuers))
    chain = read_chain(text.encode())
    check_chain(chain, request_of(pair), NAMES)
    assert to_pem(chain) == pair.chain


@pytest.mark.parametrize(
    "text", [b"", b"<html>", b"-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----"]
)
def test_what_is_no_chain_is_refused(text: bytes) -> None:
    with pytest.raises(BadAnswer, match="not certificates in PEM"):
        read_chain(text)


def test_an_endless_chain_is_refused(pair: Pair) -> None:
    with pytest.raises(BadAnswer, match="a chain of 11 certificates"):
        read_chain(pair.certificate.encode() * 11)


def test_a_certificate_for_another_key_is_refused(pair: Pair) -> None:
    other = request(ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(BadAnswer, match="for another key"):
        check_chain(read_chain(pair.chain.encode()), other, NAMES)


def test_a_certificate_without_one_of_the_names_is_refused(pair: Pair) -> None:
    names = ["A.example", "c.example", "b.b.example"]
    with pytest.raises(BadAnswer, match=r"without b\.b\.example, c\.example$"):
        check_chain(read_chain(pair.chain.encode()), request_of(pair), names)


def test_a_chain_is_known_by_who_issued_its_last_certificate(pair: Pair) -> None:
    chain = read_chain(pair.chain.encode())
    assert is_issued_by(chain, "Test Root")
    assert not is_issued_by(chain, "Test Intermediate")


def certificate(serial: int, issuer: bytes | None) -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    now = datetime.now(timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
    )
    if issuer is not None:
        builder = builder.add_extension(x509.AuthorityKeyIdentifier(issuer, None, None), False)
    return builder.sign(key, hashes.SHA256())


@pytest.mark.parametrize(
    ("serial", "expected"),
    [
        # The example of RFC 9773 section 4.1.
        (0x87654321, "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"),
        (0x7F, "aYhba4dGQEHhs3uEe6CuLN4ByNQ.fw"),
        (0x80, "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIA"),
        (0x0100, "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AQA"),
    ],
)
def test_renewal_information_knows_a_certificate_by_issuer_and_serial(
    serial: int, expected: str
) -> None:
    issuer = bytes.fromhex("69885B6B87464041E1B37B847BA0AE2CDE01C8D4")
    assert renewal_id(certificate(serial, issuer)) == expected


def test_a_certificate_that_does_not_say_who_issued_it_is_not_known() -> None:
    assert renewal_id(certificate(1, None)) is None
