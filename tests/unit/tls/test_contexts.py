"""Certificates as OpenSSL takes them: versions, ciphers, sessions, renewal."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from kproxy.snapshot import Certificate
from kproxy.tls.contexts import PROTOCOLS, Contexts, make_context
from tests.unit.tls.support import CA, client_context, handshake, issue

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
CERTIFICATE = issue("a.example")


@pytest.mark.parametrize("version", [V12, V13])
def test_a_client_that_trusts_the_ca_trusts_the_chain(version: ssl.TLSVersion) -> None:
    client, server = handshake(
        make_context(CERTIFICATE, PROTOCOLS), client_context(version=version)
    )
    assert client.connected
    assert server.version() == version.name.replace("_", ".")
    cipher = server.cipher()[0]
    assert "GCM" in cipher or "CHACHA20" in cipher
    assert server.compression() is None


def test_older_versions_are_refused() -> None:
    context = client_context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    server = make_context(CERTIFICATE, PROTOCOLS)
    with pytest.raises(ssl.SSLError, match="UNSUPPORTED_PROTOCOL"):
        handshake(server, context)


@pytest.mark.parametrize("cipher", ["ECDHE-ECDSA-AES128-SHA256", "AES128-GCM-SHA256"])
def test_ciphers_without_authenticated_encryption_or_forward_secrecy_are_refused(
    cipher: str,
) -> None:
    context = client_context(version=V12)
    context.set_ciphers(cipher)
    with pytest.raises(ssl.SSLError):
        handshake(make_context(CERTIFICATE, PROTOCOLS), context)


def test_the_client_chooses_among_the_ciphers() -> None:
    context = client_context(version=V12)
    context.set_ciphers("ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256")
    _, server = handshake(make_context(CERTIFICATE, PROTOCOLS), context)
    assert "CHACHA20" in server.cipher()[0]


def test_the_protocol_is_our_favourite_of_those_that_the_client_offers() -> None:
    server = make_context(CERTIFICATE, PROTOCOLS)
    for offered, chosen in ((["http/1.1", "h2"], "h2"), (["http/1.1"], "http/1.1"), ([], None)):
        client, _ = handshake(server, client_context(alpn=offered))
        assert client.tls.selected_alpn_protocol() == chosen


def test_a_context_is_made_once() -> None:
    contexts = Contexts()
    assert contexts.of(CERTIFICATE) is contexts.of(Certificate(CERTIFICATE.chain, CERTIFICATE.key))


def test_the_context_of_a_certificate_that_is_not_served_any_more_is_forgotten() -> None:
    contexts = Contexts()
    made = contexts.of(CERTIFICATE)
    contexts.keep({CERTIFICATE}, {})
    assert contexts.of(CERTIFICATE) is made
    contexts.keep(set(), {})
    assert contexts.of(CERTIFICATE) is not made


def reused_after(contexts: Contexts, old: Certificate, new: Certificate, version: Any) -> Any:
    """Connect with the old certificate, renew, and come back with the session; what one sees then."""
    trusting = client_context(version=version)
    first, _ = handshake(contexts.of(old), trusting)
    assert not first.tls.session_reused
    contexts.keep({new}, {old: new})
    second, _ = handshake(contexts.of(new), trusting, session=first.tls.session)
    assert second.connected
    return second.tls.session_reused


@pytest.mark.parametrize("version", [V12, V13])
def test_a_session_is_resumed_also_after_its_certificate_was_renewed(
    version: ssl.TLSVersion,
) -> None:
    assert reused_after(Contexts(), CERTIFICATE, CERTIFICATE, version)
    assert reused_after(Contexts(), CERTIFICATE, issue("a.example"), version)


def test_after_a_renewal_new_clients_see_the_new_certificate() -> None:
    contexts, renewed = Contexts(), issue("a.example")
    contexts.of(CERTIFICATE)
    contexts.keep({renewed}, {CERTIFICATE: renewed})
    client, _ = handshake(contexts.of(renewed), client_context())
    seen = ssl.DER_cert_to_PEM_cert(client.tls.getpeercert(True))
    assert "".join(seen.split()) in "".join(renewed.chain.split())


def test_a_renewal_with_a_key_of_another_kind_shows_the_new_certificate_to_everybody() -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    contexts, renewed = Contexts(), issue("a.example", key=key)
    contexts.of(CERTIFICATE)
    contexts.keep({renewed}, {CERTIFICATE: renewed})
    _, server = handshake(contexts.of(renewed), client_context(version=V12))
    assert "RSA" in server.cipher()[0]


def test_a_renewal_that_is_no_good_leaves_its_own_handshakes_to_fail() -> None:
    contexts, bad = Contexts(), Certificate(CERTIFICATE.chain, issue("b.example").key)
    contexts.of(CERTIFICATE)
    contexts.keep({bad}, {CERTIFICATE: bad})
    with pytest.raises(ssl.SSLError):
        contexts.of(bad)


def test_a_certificate_that_somebody_else_still_shows_stays_as_it_is() -> None:
    contexts, renewed = Contexts(), issue("a.example")
    made = contexts.of(CERTIFICATE)
    contexts.keep({CERTIFICATE, renewed}, {CERTIFICATE: renewed})
    assert contexts.of(CERTIFICATE) is made
    assert contexts.of(renewed) is not made


def test_an_encrypted_key_is_an_error_and_no_question_on_the_terminal() -> None:
    pair = CA.issue("a.example")
    key: Any = serialization.load_pem_private_key(pair.key.encode(), None)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    with pytest.raises(ssl.SSLError, match="encrypted"):
        make_context(Certificate(pair.chain, encrypted.decode()), PROTOCOLS)


def test_keys_leave_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    before = len(os.listdir("/proc/self/fd"))
    make_context(CERTIFICATE, PROTOCOLS)
    monkeypatch.delattr(os, "memfd_create")
    modes = []
    load = ssl.SSLContext.load_cert_chain

    def watched(self: ssl.SSLContext, path: Path, *rest: Any, **named: Any) -> None:
        modes.append(path.stat().st_mode & 0o777)
        load(self, path, *rest, **named)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", watched)
    make_context(CERTIFICATE, PROTOCOLS)
    assert modes == [0o600]
    assert list(tmp_path.iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) == before
