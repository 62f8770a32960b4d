"""Which requests read, and who has written so lately that read targets may not know of it yet.

Whoever has written gets the cookie ``kamal-writer``, whose value says until when it counts, in
milliseconds of the epoch. Until then their reads go where their writes went. kamal-proxy's cookie
is the same, so that either may stand behind the other.
"""

from __future__ import annotations

from email.utils import formatdate
from typing import Any

from kproxy.cookies import cookie

COOKIE = b"kamal-writer"


def reads(request: Any, websockets: bool) -> bool:
    """Whether a request only reads: GET and HEAD do.

    @param websockets: whether the beginning of a WebSocket, which is a GET, counts too.
    """
    if request.method not in (b"GET", b"HEAD"):
        return False
    return websockets or request.upgrade.lower() != b"websocket"


def has_written(request: Any, now: float) -> bool:
    """Whether the client wrote so lately that it should read what it wrote.

    @param now: seconds since the epoch.
    """
    value = cookie(request, COOKIE)
    # Not int() alone, which takes "1_0" and " 1" as well; 20 digits are far past any date.
    return value.isdigit() and len(value) <= 20 and now * 1000 < int(value)


def writer_cookie(now: float, timeout: float) -> bytes:
    """The value of a Set-Cookie header for somebody who has written.

    @param now: seconds since the epoch.
    @param timeout: seconds.
    """
    until = now + timeout
    # The value decides; the browser may keep the cookie a little longer, since Expires has seconds.
    expires = formatdate(until + 1, usegmt=True).encode("ascii")
    return b"%b=%d; Path=/; Expires=%b; HttpOnly" % (COOKIE, int(until * 1000), expires)
