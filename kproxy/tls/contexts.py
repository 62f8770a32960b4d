"""Certificates to the contexts of OpenSSL.

A context is made when the first client needs it, and kept as long as its certificate is served. The
keys of session tickets live in the context. So a certificate that takes the place of another of the
same kind is loaded into that one's context: sessions survive the renewal (RFC 8446 section 2.2).
"""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from kproxy.snapshot import Certificate
from kproxy.tls.tickets import share_sessions

if TYPE_CHECKING:
    from cryptography import x509

PROTOCOLS = ("h2", "http/1.1", "http/1.0")
"""What is spoken over TLS (RFC 7301), the favourite first."""

_DESCRIPTORS = Path("/proc/self/fd")
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2: forward secrecy and authenticated encryption, as all of TLS 1.3 has."""


class Contexts:
    """The contexts of the certificates that are served.

    @ivar secret: what other processes have, too, that understand each other's session tickets; empty:
        there are none.
    """

    def __init__(self) -> None:
        self.secret = b""
        self._made: dict[Certificate, ssl.SSLContext] = {}

    def of(self, certificate: Certificate) -> ssl.SSLContext:
        """@raise ssl.SSLError: the certificate can't be served."""
        context = self._made.get(certificate)
        if context is None:
            context = self._made[certificate] = make_context(certificate, PROTOCOLS)
            if self.secret:
                share_sessions(context, self.secret, _names(certificate))
        return context

    def keep(
        self, certificates: set[Certificate], renewed: Mapping[Certificate, Certificate]
    ) -> None:
        """Forget the contexts of all but these certificates.

        @param renewed: certificates, and what has taken their place.
        """
        if certificates:
            _x509()  # now, and not while the first client waits
        for old, new in renewed.items():
            if old in self._made and old not in certificates and new not in self._made:
                self._renew(old, new)
        self._made = {each: self._made[each] for each in self._made if each in certificates}

    def _renew(self, old: Certificate, new: Certificate) -> None:
        """Load a certificate into the context of another, whose sessions it takes over."""
        try:
            if _key_type(old) is _key_type(new):  # a context keeps a certificate for each kind
                # Into a context of its own first, so that a bad one does no harm to the other.
                make_context(new, PROTOCOLS)
                _load(self._made[old], new)
                self._made[new] = self._made[old]
        except (ssl.SSLError, ValueError):
            return  # the first client that needs it will find out


def make_context(certificate: Certificate, protocols: Sequence[str]) -> ssl.SSLContext:
    """@raise ssl.SSLError: the certificate can't be served."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    # All of them are good: the client knows best which one its processor is quick at.
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    # One ticket for one connection, as Go's servers have it (and nginx two): each costs a twentieth
    # of a handshake, and a client that speaks HTTP/2 opens no second one.
    context.num_tickets = 1
    context.set_alpn_protocols(list(protocols))
    _load(context, certificate)
    return context


def _load(context: ssl.SSLContext, certificate: Certificate) -> None:
    with _path_of(f"{certificate.key}\n{certificate.chain}") as path:
        context.load_cert_chain(path, password=_no_password)


def _no_password() -> str:
    """In place of OpenSSL's question on the terminal, which would wait for an answer."""
    raise ssl.SSLError("the key is encrypted")


@contextmanager
def _path_of(text: str) -> Iterator[Path]:
    """A file with this text, for a library that reads nothing else: in memory where the system has
    that, so that a key never touches a disk."""
    try:
        descriptor = os.memfd_create("certificate")
        path = _DESCRIPTORS / str(descriptor)
    except (AttributeError, OSError):
        descriptor, name = tempfile.mkstemp()  # mode 0600
        path = Path(name)
    with open(descriptor, "wb") as file:
        file.write(text.encode("ascii"))
        file.flush()
        try:
            yield path
        finally:
            if path.parent != _DESCRIPTORS:
                path.unlink()


def _key_type(certificate: Certificate) -> type:
    return type(_first(certificate).public_key())


def _names(certificate: Certificate) -> list[str]:
    x509 = _x509()
    try:
        extension = _first(certificate).extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in extension.value]


def _first(certificate: Certificate) -> x509.Certificate:
    first: x509.Certificate = _x509().load_pem_x509_certificate(certificate.chain.encode("ascii"))
    return first


def _x509() -> ModuleType:
    """Imported once there is a certificate, since a worker holds 7 MB more then."""
    from cryptography import x509

    return x509
