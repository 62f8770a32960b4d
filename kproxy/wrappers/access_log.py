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
from kproxy.streaming import streaming
from kproxy.wrappers.base import Wrapper

Fields = Mapping[bytes, "tuple[bytes, ...]"]


class _Quoted(dict[bytes, str]):
    """Bytes as JSON strings; remembers those that repeat. What it holds is bounded."""

    def __missing__(self, value: bytes) -> str:
        text = _quote(str(value, "utf-8", "backslashreplace"))
        if len(value) <= 256:
            if len(self) >= 2048:
                self.clear()
            self[value] = text
        return text


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
    elapsed: Callable[[], int] = time.perf_counter_ns
    """Nanoseconds of a clock that never jumps."""


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

    def __init__(self, wrapped: IResource, options: Options = Options()) -> None:  # noqa: B008
        super().__init__(wrapped)
        self._write = options.write
        self._now = options.now
        self._elapsed = options.elapsed
        self._quoted = _Quoted()
        self._default = _HeaderKeys(LoggedHeaders())
        self._services: dict[object, _HeaderKeys] = {}
        self._second = -1
        self._second_text = ""

    def show_headers(self, services: Mapping[str, LoggedHeaders]) -> None:
        """Set which headers the lines of each service show."""
        self._services = {name: _HeaderKeys(headers) for name, headers in services.items()}

    def render(self, request: Any) -> Any:
        streaming(request)
        headers = request.requestHeaders
        fields = getattr(headers, "fields", None)
        if fields is None:
            came = {name.lower(): (b"", *values) for name, values in headers.getAllRawHeaders()}
        else:
            came = fields.copy()
        path, query = request.path, request.query
        began = self._elapsed()

        def ended(request: Any, failure: Failure | None) -> None:
            duration = self._elapsed() - began
            self._line(request, came, path, query, duration, failure is not None)

        request.on_finish(ended)
        return self.wrapped.render(request)

    def _time(self) -> str:
        now = self._now()
        second = int(now)
        if second != self._second:
            self._second = second
            self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return "%s.%06dZ" % (self._second_text, (now - second) * 1000000)

    def _line(
        self, request: Any, came: Fields, path: bytes, query: bytes, duration: int, left: bool
    ) -> None:
        quoted = self._quoted
        empty = (b"", b"")
        notes = request.notes
        client = request.getClientAddress()
        client_host = getattr(client, "host", "")
        service = notes.get("service", "")
        keys = self._services.get(service, self._default)
        answer = request.responseHeaders
        status = request.code if not left or request.begun() else CLIENT_CLOSED_REQUEST
        length = came.get(b"content-length", (b"", b"0"))[1]
        if b"transfer-encoding" in came or not length.isdigit():
            length = b"-1"
        forwarded = came.get(b"x-forwarded-for")
        line = (
            f'{{"time":"{self._time()}","level":"INFO","msg":"Request"'
            f',"host":{quoted[came.get(b"host", empty)[1]]}'
            f',"port":{getattr(request.getHost(), "port", 0)}'
            f',"path":{_quote(str(path, "utf-8", "backslashreplace"))}'
            f',"request_id":{_quote(str(came.get(b"x-request-id", empty)[1], "latin-1"))}'
            f',"status":{status},"service":{_quote(service)},"target":{_quote(notes.get("target", ""))}'
            f',"duration":{duration},"method":{quoted[request.method]}'
            f',"req_content_length":{int(length)}'
            f',"req_content_type":{quoted[came.get(b"content-type", empty)[1]]}'
            f',"resp_content_length":{request.sentLength}'
            f',"resp_content_type":{quoted[_first(answer, b"content-type")]}'
            f',"client_addr":"{client_host}","client_port":{getattr(client, "port", 0)}'
            f',"remote_addr":{quoted[forwarded[1]] if forwarded else _quote(client_host)}'
            f',"user_agent":{quoted[came.get(b"user-agent", empty)[1]]}'
            f',"proto":"{request.clientproto.decode("ascii")}"'
            f',"scheme":"{"https" if request.isSecure() else "http"}"'
            f',"query":{_quote(str(query, "utf-8", "backslashreplace"))}'
        )
        for name, member in keys.request:
            field = came.get(name)
            if field is not None:
                line += member + quoted[field[1]]
        for name, member in keys.response:
            value = _first(answer, name)
            if value:
                line += member + quoted[value]
        self._write(line + "}\n")


def _first(headers: Any, name: bytes) -> bytes:
    fields = getattr(headers, "fields", None)
    if fields is not None:
        return fields[name][1] if name in fields else b""  # type: ignore[no-any-return]
    values = headers.getRawHeaders(name)
    return values[0] if values else b""
