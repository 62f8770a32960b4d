"""Sessions that another process has begun."""

from __future__ import annotations

import ssl

import pytest

from kproxy.snapshot import Certificate
from kproxy.tls import tickets
from kproxy.tls.contexts import PROTOCOLS, Contexts, make_context
from kproxy.tls.tickets import share_sessions
from tests.unit.tls.support import client_context, handshake, issue

CERTIFICATE = issue("a.example")
both = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])


def contexts(secret: bytes) -> Contexts:
    """Those of one process."""
    made = Contexts()
    made.secret = secret
    return made


def resumed(begun_by: ssl.SSLContext, other: ssl.SSLContext, version: ssl.TLSVersion) -> bool:
    """Whether a session that one context has begun is resumed by another."""
    client = client_context(version=version)
    first, _ = handshake(begun_by, client)
    _, server = handshake(other, client, session=first.tls.session)
    return bool(server.session_reused)


@both
def test_a_session_is_resumed_by_a_process_with_the_same_secret(version: ssl.TLSVersion) -> None:
    one, other = contexts(b"secret"), contexts(b"secret")
    assert resumed(one.of(CERTIFICATE), other.of(CERTIFICATE), version)


@both
def test_a_session_is_resumed_after_a_renewal_by_a_process_that_never_had_the_old_certificate(
    version: ssl.TLSVersion,
) -> None:
    one, other = contexts(b"secret"), contexts(b"secret")
    assert resumed(one.of(CERTIFICATE), other.of(issue("a.example")), version)


@both
@pytest.mark.parametrize("secret", [b"another", b""])
def test_a_session_is_begun_anew_by_a_process_with_another_secret_or_none(
    version: ssl.TLSVersion, secret: bytes
) -> None:
    one, other = contexts(b"secret"), contexts(secret)
    assert not resumed(one.of(CERTIFICATE), other.of(CERTIFICATE), version)


@both
def test_a_session_of_one_name_is_none_of_another(version: ssl.TLSVersion) -> None:
    made = contexts(b"secret")
    both_names: Certificate = issue("a.example", "b.example")
    assert not resumed(made.of(CERTIFICATE), made.of(both_names), version)


def test_an_interpreter_that_is_not_known_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tickets, "_KNOWN", False)
    assert not share_sessions(make_context(CERTIFICATE, PROTOCOLS), b"secret", ["a.example"])
