"""Session tickets that several processes understand (RFC 5077, RFC 8446 section 4.6.1).

OpenSSL makes up the keys of tickets for each context, so that a session which one worker has begun is
unknown to the others. It can be told which keys to use; but Python's `ssl` does not hand that on. Its
contexts are OpenSSL's, though, and so is its library: both are reached by `ctypes`, where they are what
they are known to be. Where they are not, sessions are resumed by the worker that has begun them, and
begun anew by others, which costs a handshake and nothing else.
"""

from __future__ import annotations

import ctypes
import hmac
import ssl
import sys
from collections.abc import Iterable
from typing import Any

_KEYS = 80
"""Bytes: a name, a key that proves, and one that hides."""
_SET_TICKET_KEYS = 59
"""``SSL_CTRL_SET_TLSEXT_TICKET_KEYS``; without a buffer it tells how many bytes they are."""
_KNOWN = sys.implementation.name == "cpython" and (3, 10) <= sys.version_info < (3, 15)
"""Whether a context begins with the pointer to OpenSSL's own (``PySSLContext`` in ``_ssl.c``)."""


def share_sessions(context: ssl.SSLContext, secret: bytes, names: Iterable[str]) -> bool:
    """Let the tickets of a context be understood by those of other processes that have the same
    secret, for the same names: a session of one name is none of another.

    @return: whether that can be had.
    """
    if not _KNOWN:
        return False
    try:
        import _ssl

        control = ctypes.CDLL(_ssl.__file__).SSL_CTX_ctrl
    except (ImportError, OSError, AttributeError):  # built in, or its symbols are hidden
        return False
    control.restype = ctypes.c_long
    control.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_void_p)
    pointer: Any = ctypes.c_void_p.from_address(id(context) + object.__basicsize__).value
    if control(pointer, _SET_TICKET_KEYS, 0, None) != _KEYS:
        return False
    return bool(control(pointer, _SET_TICKET_KEYS, _KEYS, _keys(secret, names)) == 1)


def _keys(secret: bytes, names: Iterable[str]) -> bytes:
    whose = "\n".join(sorted(names)).encode("utf-8")
    parts = (hmac.digest(secret, number + whose, "sha512") for number in (b"1", b"2"))
    return b"".join(parts)[:_KEYS]
