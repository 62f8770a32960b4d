"""One JSON object a line for every request that got a status (behaviour.md section 5)."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii as _quote
from typing import Any

from twisted.python.failure import Failure
from twisted.web.resource import IResource

from kproxy.errors import CLIENT_CLOSED_REQUEST
from kproxy.http.lifecycle import request_fields, response_fields
from kproxy.streaming import streaming
from kproxy.wrappers.base import Wrapper

_EMPTY = (b"", b"")
_NOTHING = '""'


class _Quoted:
    """Values as JSON strings; remembers those that repeat. What it holds is bounded."""

    LONGEST = 256
    MOST = 2048

    __slots__ = ("_texts",)

    def __init__(self) -> None:
        self._texts: dict[object, str] = {}

    def value(self, value: bytes) -> str:
        """The value of a header."""
        return self._texts.get(value) or self._add(
            value, str(value, "utf-8", "backslashreplace"), len(value)
        )

    def note(self, note: str) -> str:
        """One of a request's notes."""
        return self._texts.get(note) or self._add(note, note, len(note))

    def _add(self, key: object, text: str, length: int) -> str:
        quoted = _quote(text)
        if length <= self.LONGEST:
            if len(self._texts) >= self.MOST:
                self._texts.clear()
            self._texts[key] = quoted
        return quoted


@dataclass(frozen=True)
class LoggedHeaders:
    """Headers that a service wants in its lines."""

    request: tuple[str, ...] = ("Cache-Control", "Last-Modified", "User-Agent")
    response: tuple[str, ...] = ()


@dataclass(frozen=True)
class Options:
    write: Callable[[str], object] = sys.stdout.write
    """Takes each line."""
    now: Callable[[], float] = time.time
    """Seconds since the epoch."""


class _HeaderKeys:
    """`LoggedHeaders`, prepared: lower-case name and the beginning of the JSON member."""

    def __init__(self, headers: LoggedHeaders) -> None:
        self.request = [_member("req", name) for name in headers.request]
        self.response = [_member("resp", name) for name in headers.response]


def _member(prefix: str, header: str) -> tuple[bytes, str]:
    name = header.lower()
    return name.encode("ascii"), f',"{prefix}_{name.replace("-", "_")}":'


class AccessLog(Wrapper):
    """Writes a line when a request ends."""

    def __init__(self, wrapped: IResource, options: Options = Options()) -> None:
        super().__init__(wrapped)
        self._lines = _Lines(options)

    def show_headers(self, services: Mapping[str, LoggedHeaders]) -> None:
        """Set which headers the lines of each service show."""
        self._lines.services = {name: _HeaderKeys(headers) for name, headers in services.items()}

    def render(self, request: Any) -> Any:
        streaming(request).on_finish(_Seen(self._lines, request).ended)
        return self.wrapped.render(request)


class _Lines:
    """What all lines share.

    @ivar services: which headers the lines of each service show.
    """

    __slots__ = (
        "_now",
        "_second",
        "_second_text",
        "default",
        "quoted",
        "services",
        "write",
    )

    def __init__(self, options: Options) -> None:
        self.write = options.write
        self.quoted = _Quoted()
        self.services: dict[object, _HeaderKeys] = {}
        self.default = _HeaderKeys(LoggedHeaders())
        self._now = options.now
        self._second = -1.0
        self._second_text = ""

    def time(self) -> str:
        """The time of day to the microsecond (RFC 3339), without its zone."""
        now = self._now()
        if not self._second <= now < self._second + 1:
            second = int(now)
            self._second = float(second)
            self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        micros = int((now - self._second) * 1000000)
        return f"{self._second_text}.{micros:06}"


class _Seen:
    """A request as it came, for the line that is written at its end."""

    __slots__ = ("_fields", "_length", "_lines", "_path", "_query", "_secure")

    def __init__(self, lines: _Lines, request: Any) -> None:
        self._lines = lines
        self._fields = request_fields(request).copy()
        self._path: bytes = request.path
        self._query: bytes = request.query
        length = request.body.length
        self._length = -1 if length is None else length
        self._secure: bool = request.isSecure()

    def ended(self, request: Any, failure: Failure | None) -> None:
        lines = self._lines
        duration = request.took
        quoted = lines.quoted
        came = self._fields
        answered = response_fields(request)
        notes = request.notes
        service: str = notes.get("service", "")
        client = request.getClientAddress()
        client_host = getattr(client, "host", "")
        client_port = getattr(client, "port", 0)
        port = getattr(request.getHost(), "port", 0)
        left = failure is not None and not request.begun()
        status = CLIENT_CLOSED_REQUEST if left else request.code
        size = request.sentLength
        forwarded = came.get(b"x-forwarded-for")
        remote = f'"{client_host}"' if forwarded is None else quoted.value(forwarded[1])
        request_id = came.get(b"x-request-id", _EMPTY)[1]
        query = self._query
        shown = ""
        keys = lines.services.get(service, lines.default)
        for name, member in keys.request:
            field = came.get(name)
            if field is not None:
                shown += member + quoted.value(field[1])
        for name, member in keys.response:
            field = answered.get(name)
            if field is not None:
                shown += member + quoted.value(field[1])
        lines.write(
            f'{{"time":"{lines.time()}Z"'
            f',"level":"INFO","msg":"Request"'
            f',"host":{quoted.value(came.get(b"host", _EMPTY)[1])}'
            f',"port":{port}'
            f',"path":{_quote(self._path.decode("utf-8", "backslashreplace"))}'
            f',"request_id":{_quote(request_id.decode("latin-1"))}'
            f',"status":{status}'
            f',"service":{quoted.note(service)},"target":{quoted.note(notes.get("target", ""))}'
            f',"duration":{duration},"method":{quoted.value(request.method)}'
            f',"req_content_length":{self._length}'
            f',"req_content_type":{quoted.value(came.get(b"content-type", _EMPTY)[1])}'
            f',"resp_content_length":{size}'
            f',"resp_content_type":{quoted.value(answered.get(b"content-type", _EMPTY)[1])}'
            f',"client_addr":"{client_host}","client_port":{client_port}'
            f',"remote_addr":{remote}'
            f',"user_agent":{quoted.value(came.get(b"user-agent", _EMPTY)[1])}'
            f',"proto":{quoted.value(request.clientproto)}'
            f',"scheme":"{"https" if self._secure else "http"}"'
            f',"query":{_quote(query.decode("utf-8", "backslashreplace")) if query else _NOTHING}'
            f"{shown}}}\n"
        )
