"""Whether a certificate will do, and what is said of one that won't."""

from __future__ import annotations

import ssl
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa

from kproxy.tls.certificates import check
from kproxy.tls.checked import CertificateError, covers, warnings
from tests.support.certificates import DAY, Authority, key_pem, new_key

NOW = datetime(2026, 6, 1, 12, tzinfo=timezone.utc)
CA = Authority(now=NOW)
PAIR = CA.issue("a.example", "*.a.example")


def complaint(chain: str = PAIR.chain, key: str = PAIR.key, now: datetime = NOW) -> str:
    """What is said of what can't be used; it never quotes any of it."""
    with pytest.raises(CertificateError) as caught:
        check(chain, key, now, "the secret CERT", "the secret KEY")
    text = str(caught.value)
    for line in (*chain.splitlines(), *key.splitlines()):
        assert len(line) < 12 or line not in text
    return text


def test_a_full_chain_can_be_served() -> None:
    checked = check(PAIR.chain, PAIR.key, NOW)
    assert checked.certificate.chain == PAIR.chain
    assert checked.certificate.key == PAIR.key
    assert checked.names == ("a.example", "*.a.example")
    assert checked.expires == NOW + 90 * DAY


def test_a_chain_may_end_with_its_root_or_be_a_single_certificate() -> None:
    assert check(PAIR.chain + CA.root, PAIR.key, NOW).certificate.chain == PAIR.chain + CA.root
    assert check(PAIR.certificate, PAIR.key, NOW).certificate.chain == PAIR.certificate


def test_a_certificate_that_signs_itself_can_be_served() -> None:
    assert check(CA.root, key_pem(CA.root_key), NOW).names == ()


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(65537, 2048),
        ec.generate_private_key(ec.SECP384R1()),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["rsa", "p384", "ed25519"],
)
def test_the_usual_kinds_of_keys_can_be_served(key: Any) -> None:
    pair = CA.issue("a.example", key=key)
    assert check(pair.chain, pair.key, NOW).certificate.key == pair.key


def test_keys_come_in_several_forms_and_may_have_parameters_before_them() -> None:
    key = new_key()
    pair = CA.issue("a.example", key=key)
    old_form = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    ).decode()
    assert "BEGIN EC PRIVATE KEY" in old_form
    parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    assert check(pair.chain, parameters + old_form, NOW).certificate.key == old_form


def test_text_between_the_blocks_is_left_out() -> None:
    explained = "subject=a.example\r\n" + PAIR.chain.replace("\n", "\r\n") + "issuer=Test\r\n"
    chain = check(explained, "a note\n" + PAIR.key, NOW).certificate.chain
    assert chain.replace("\r\n", "\n") == PAIR.chain


def test_a_chain_without_its_leaf_at_the_front_is_told_so() -> None:
    assert complaint(CA.intermediate + PAIR.certificate) == (
        "the secret CERT is in the wrong order: the certificate of a.example, which the key belongs "
        "to, has to come first"
    )


def test_issuers_in_the_wrong_order_are_told_so() -> None:
    assert complaint(PAIR.certificate + CA.root + CA.intermediate) == (
        "the secret CERT is in the wrong order: behind a.example has to come its issuer, "
        '"Test Intermediate", and not "Test Root"'
    )


def test_a_certificate_of_somebody_else_in_the_chain_is_named() -> None:
    other = Authority("Other", NOW)
    assert complaint(PAIR.certificate + other.intermediate) == (
        'the secret CERT has a certificate that does not belong there: "Other Intermediate" did not '
        "issue a.example"
    )


def test_a_chain_of_the_same_names_but_other_keys_is_not_taken_for_right() -> None:
    assert "did not issue a.example" in complaint(
        PAIR.certificate + Authority(now=NOW).intermediate
    )


def test_a_key_of_another_certificate_is_refused() -> None:
    assert complaint(key=key_pem(new_key())) == (
        "the secret KEY does not belong to the secret CERT, which is for a.example"
    )


def test_a_certificate_that_has_expired_is_refused_with_the_day() -> None:
    pair = CA.issue("a.example", until=NOW - timedelta(seconds=1))
    assert complaint(pair.chain, pair.key) == "the secret CERT expired on 2026-06-01"
    assert complaint(now=NOW + 91 * DAY) == "the secret CERT expired on 2026-08-30"


def test_an_issuer_that_has_expired_is_named() -> None:
    pair = CA.issue("a.example", until=NOW + 9000 * DAY)
    text = complaint(pair.chain, pair.key, NOW + 4000 * DAY)
    assert text.endswith('expired on 2036-05-29: its issuer "Test Intermediate"')


def test_a_certificate_of_tomorrow_is_refused() -> None:
    pair = CA.issue("a.example", since=NOW + DAY)
    assert complaint(pair.chain, pair.key) == (
        "the secret CERT is not valid before 2026-06-02 12:00 UTC"
    )


@pytest.mark.parametrize("passphrase", [b"s3cret"])
def test_an_encrypted_key_is_refused_with_what_to_do(passphrase: bytes) -> None:
    key = new_key()
    pair = CA.issue("a.example", key=key)
    text = complaint(pair.chain, key_pem(key, passphrase))
    assert text.startswith("the secret KEY is encrypted")
    assert "`openssl pkey" in text
    old_form = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.BestAvailableEncryption(passphrase),
    ).decode()
    assert complaint(pair.chain, old_form).startswith("the secret KEY is encrypted")


def test_secrets_that_were_mixed_up_are_told_so() -> None:
    assert complaint(chain=PAIR.key) == (
        "the secret CERT holds a private key, and should hold a certificate"
    )
    assert complaint(key=PAIR.chain) == (
        "the secret KEY holds a certificate, and should hold a private key"
    )


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "; it is empty"),
        ("nonsense", ""),
        ("-----BEGIN CERTIFICATE-----", "; it begins well, but breaks off: values of several "),
    ],
    ids=["empty", "nonsense", "first-line"],
)
def test_what_is_no_certificate_is_told_so_with_the_likely_reason(text: str, hint: str) -> None:
    beginning = f"the secret CERT holds no certificate in PEM form{hint}"
    said = complaint(chain=text)
    assert said.startswith(beginning)
    assert hint or said == beginning


def test_line_breaks_that_were_written_out_are_told_so() -> None:
    escaped = PAIR.chain.replace("\n", "\\n")
    assert complaint(escaped) == "the secret CERT has \\n where it should have line breaks"
    escaped = PAIR.key.replace("\n", "\\n")
    assert complaint(key=escaped) == "the secret KEY has \\n where it should have line breaks"


def test_what_is_no_key_is_told_so() -> None:
    assert complaint(key="nonsense") == "the secret KEY holds no private key in PEM form"


@pytest.mark.parametrize("part", ["chain", "key"])
def test_damaged_pem_is_told_so(part: str) -> None:
    good = getattr(PAIR, part)
    lines = good.splitlines()
    lines[1] = lines[1][::-1]
    name = {"chain": "CERT", "key": "KEY"}[part]
    assert complaint(**{part: "\n".join(lines)}).startswith(f"the secret {name} can't be read: ")


def test_whatever_byte_is_damaged_nothing_but_a_sentence_comes_of_it() -> None:
    der = ssl.PEM_cert_to_DER_cert(PAIR.certificate)
    said = set()
    for at in range(0, len(der), 3):
        damaged = der[:at] + bytes([der[at] ^ 0x15]) + der[at + 1 :]
        chain = ssl.DER_cert_to_PEM_cert(damaged) + CA.intermediate
        try:
            check(chain, PAIR.key, NOW)
        except CertificateError as error:
            said.add(str(error))
        else:
            pytest.fail(f"nobody saw that byte {at} was damaged")
    assert len(said) > 3


def test_small_keys_and_kinds_that_tls_does_not_know_are_refused() -> None:
    small = key_pem(rsa.generate_private_key(65537, 1024))
    assert (
        complaint(key=small) == "the secret KEY is an RSA key of 1024 bits, and needs at least 2048"
    )
    odd = key_pem(dsa.generate_private_key(2048))
    assert complaint(key=odd).startswith("the secret KEY is of a kind that TLS has no use for")


# What is worth a warning.


def said_of(pair: Any, *hosts: str, now: datetime = NOW) -> list[str]:
    return warnings(check(pair.chain, pair.key, now), hosts, now)


def test_a_certificate_that_expires_within_thirty_days_is_worth_a_warning() -> None:
    assert said_of(PAIR, now=NOW + 60 * DAY) == []
    assert said_of(PAIR, now=NOW + 60 * DAY + timedelta(hours=1)) == [
        "expires in 29 days, on 2026-08-30"
    ]
    assert said_of(PAIR, now=NOW + 89 * DAY) == ["expires in 1 day, on 2026-08-30"]


def test_hosts_that_are_not_covered_are_worth_a_warning() -> None:
    assert said_of(PAIR, "a.example", "x.a.example") == []
    assert said_of(PAIR, "a.example", "b.example", "x.y.a.example") == [
        "does not cover b.example, x.y.a.example; it is for a.example, *.a.example"
    ]


def test_a_common_name_covers_nothing_as_with_browsers() -> None:
    pair = CA.issue(common_name="a.example")
    assert said_of(pair, "a.example") == ["does not cover a.example; it is for no host at all"]


@pytest.mark.parametrize(
    ("host", "covered"),
    [
        ("x.example", True),
        ("example", False),
        ("x.y.example", False),
        ("*.example", True),
        ("*.x.example", False),
        ("y.test", True),
        ("*.y.test", False),
    ],
)
def test_a_wildcard_stands_for_one_label(host: str, covered: bool) -> None:
    assert covers(("*.example", "y.test"), host) is covered
