"""What a Host may be; of those that are right, parsers remember some."""

from __future__ import annotations

from typing import Final

from kproxy.http.headers import TOKEN, FieldCache

_REG_NAME: Final = TOKEN.translate(None, b"#^`|") + b"(),;="
"""RFC 3986 section 3.2.2: unreserved, escapes, sub-delims."""


def learn_host(host: bytes, known: set[bytes]) -> bool:
    """Whether this is a Host; if so, it is among the known ones from now on, unless it is too long."""
    if not valid_host(host):
        return False
    if len(host) <= FieldCache.LONGEST_LINE:
        if len(known) >= FieldCache.MOST_LINES:
            known.clear()
        known.add(host)
    return True


def valid_host(host: bytes) -> bool:
    """Whether this is a Host (RFC 9110 section 7.2): a name or an address, and maybe a port."""
    name = host
    if host.startswith(b"["):
        name, bracket, port = host[1:].partition(b"]")
        if not bracket or name.translate(None, b"0123456789abcdefABCDEF:."):
            return False
        if port and not port.startswith(b":"):
            return False
        port = port[1:]
    else:
        name, _, port = host.partition(b":")
        if name.translate(None, _REG_NAME):
            return False
    return bool(name) and (not port or (port.isdigit() and len(port) <= 5))
