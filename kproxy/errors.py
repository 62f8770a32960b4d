"""The answers that the proxy gives itself (behaviour.md section 3)."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from twisted.logger import Logger
from twisted.web.http import RESPONSES, datetimeToString

if TYPE_CHECKING:
    from kproxy.interfaces import IErrorPages

REASONS: Final = {status.value: status.phrase.encode("ascii") for status in HTTPStatus} | RESPONSES
"""Reason phrases; Twisted's own lack 429 and 431, among others."""
CLIENT_CLOSED_REQUEST = 499
"""For the access log only: the client went away before it was answered (nginx's number)."""
_CLOSING: Final = (400, 408, 413, 414, 431)
"""After these nobody knows where the next request would begin, or wants to read up to there."""

_log = Logger()


def answer_error(
    request: Any, code: int, message: str = "", headers: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    """Answer with an error page, or cut the client off if it has a part of another answer already.

    @param request: an `IStreamingRequest` that has not been finished.
    @param message: for the visitor to read, as what an operator said when the service was stopped.
    @param headers: to be sent beside those of the page: Retry-After, say.
    """
    if request.begun():
        request.abort()
        return
    sent = [*headers]
    if code in _CLOSING or request.responseHeaders.hasHeader(b"connection"):
        sent.append((b"connection", b"close"))
    try:
        _write_page(request, code, message, sent)
    except Exception:
        if request._disconnected:
            raise
        # Of a wrapper's filter that the page went through, say. The second time it goes past that one:
        # whoever asks for an error page has no other way to tell the client.
        _log.failure("{request}: an error page failed", request=request)
        if request.begun():
            request.abort()
        else:
            _write_page(request, code, message, sent)


def _write_page(
    request: Any, code: int, message: str, headers: Iterable[tuple[bytes, bytes]]
) -> None:
    request.restart_response()
    request.setResponseCode(code, REASONS.get(code))
    pages: IErrorPages | None = request.notes.get("error_pages")
    if pages is None:
        content_type = b"text/plain; charset=utf-8"
        body = b"%d %b\n" % (code, REASONS.get(code, b"Error"))
        if message:
            body += message.encode("utf-8") + b"\n"
    else:
        content_type = b"text/html; charset=utf-8"
        body = pages.page(code, message)
    answer = request.responseHeaders
    answer.setRawHeaders(b"date", [datetimeToString()])
    answer.setRawHeaders(b"content-type", [content_type])
    answer.setRawHeaders(b"content-length", [b"%d" % len(body)])
    for name, value in headers:
        answer.setRawHeaders(name, [value])
    request.write(b"" if request.method == b"HEAD" else body)
    request.finish()
