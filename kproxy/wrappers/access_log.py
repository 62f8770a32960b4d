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
_EMPTY = (b"", b"")
_NOTHING = '""'


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

    def __init__(self, wrapped: IResource, options: Options = Options()) -> None:
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
            came = _fields(headers)
        else:
            came = fields.copy()
        path, query, length = request.path, request.query, request.body.length
        secure = request.isSecure()
        began = self._elapsed()

        def ended(request: Any, failure: Failure | None) -> None:
            duration = self._elapsed() - began
            self._line(request, came, path, query, length, secure, duration, failure is not None)

        request.on_finish(ended)
        return self.wrapped.render(request)

    def _line(
        self,
        request: Any,
        came: Fields,
        path: bytes,
        query: bytes,
        length: int | None,
        secure: bool,
        duration: int,
        left: bool,
    ) -> None:
        quoted = self._quoted
        get = came.get
        notes = request.notes
        service = notes.get("service", "")
        client = request.getClientAddress()
        client_host = getattr(client, "host", "")
        status = request.code if not left or request.begun() else CLIENT_CLOSED_REQUEST
        forwarded = get(b"x-forwarded-for")
        remote = quoted[forwarded[1]] if forwarded is not None else f'"{client_host}"'
        answer = request.responseHeaders
        answered = getattr(answer, "fields", None)
        if answered is None:
            answered = _fields(answer)
        now = self._now()
        second = int(now)
        if second != self._second:
            self._second = second
            self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        line = (
            f'{{"time":"{self._second_text}.{int((now - second) * 1000000):06}Z"'
            f',"level":"INFO","msg":"Request"'
            f',"host":{quoted[get(b"host", _EMPTY)[1]]}'
            f',"port":{getattr(request.getHost(), "port", 0)}'
            f',"path":{_quote(str(path, "utf-8", "backslashreplace"))}'
            f',"request_id":{_quote(str(get(b"x-request-id", _EMPTY)[1], "latin-1"))}'
            f',"status":{status},"service":{_quote(service)},"target":{_quote(notes.get("target", ""))}'
            f',"duration":{duration},"method":{quoted[request.method]}'
            f',"req_content_length":{-1 if length is None else length}'
            f',"req_content_type":{quoted[get(b"content-type", _EMPTY)[1]]}'
            f',"resp_content_length":{request.sentLength}'
            f',"resp_content_type":{quoted[answered.get(b"content-type", _EMPTY)[1]]}'
            f',"client_addr":"{client_host}","client_port":{getattr(client, "port", 0)}'
            f',"remote_addr":{remote}'
            f',"user_agent":{quoted[get(b"user-agent", _EMPTY)[1]]}'
            f',"proto":{quoted[request.clientproto]}'
            f',"scheme":"{"https" if secure else "http"}"'
            f',"query":{_quote(str(query, "utf-8", "backslashreplace")) if query else _NOTHING}'
        )
        keys = self._services.get(service, self._default)
        for name, member in keys.request:
            field = get(name)
            if field is not None:
                line += member + quoted[field[1]]
        for name, member in keys.response:
            field = answered.get(name)
            if field is not None:
                line += member + quoted[field[1]]
        self._write(line + "}\n")


def _fields(headers: Any) -> dict[bytes, tuple[bytes, ...]]:
    """Twisted's own headers in the form of `FieldMap.fields`."""
    return {name.lower(): (b"", *values) for name, values in headers.getAllRawHeaders()}
