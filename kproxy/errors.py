"""The answers that the proxy gives itself (behaviour.md section 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.web.http import RESPONSES, datetimeToString

if TYPE_CHECKING:
    from kproxy.interfaces import IErrorPages

CLIENT_CLOSED_REQUEST = 499
"""For the access log only: the client went away before it was answered (nginx's number)."""


def answer_error(request: Any, code: int, message: str = "") -> None:
    """Answer with an error page, or cut the client off if it has a part of another answer already.

    @param request: an `IStreamingRequest` that has not been finished.
    @param message: what an operator said when the service was stopped.
    """
    if request.begun():
        request.abort()
        return
    close = request.responseHeaders.hasHeader(b"connection")
    request.restart_response()
    request.setResponseCode(code)
    pages: IErrorPages | None = request.notes.get("error_pages")
    if pages is None:
        content_type = b"text/plain; charset=utf-8"
        body = b"%d %b\n" % (code, RESPONSES.get(code, b"Error"))
    else:
        content_type = b"text/html; charset=utf-8"
        body = pages.page(code, message)
    headers = request.responseHeaders
    headers.setRawHeaders(b"date", [datetimeToString()])
    headers.setRawHeaders(b"content-type", [content_type])
    headers.setRawHeaders(b"content-length", [b"%d" % len(body)])
    if close or code in (400, 408, 413, 414, 431):
        headers.setRawHeaders(b"connection", [b"close"])
    request.write(b"" if request.method == b"HEAD" else body)
    request.finish()
