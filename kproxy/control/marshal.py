"""A service as JSON and back, for the state file.

The options of wrappers are a third party's and stay out: they are always those of the configuration
file, which is where wrappers are named.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
import types
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from twisted.logger import Logger

from kproxy.config.model import Service

_LEFT_OUT = "wrappers"
_log = Logger()
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


class Unreadable(ValueError):
    """Data that no service was made into; the text says where it is wrong."""


def service_to_json(service: Service) -> dict[str, Any]:
    """Everything of a service but its wrappers, as plain JSON."""
    data: dict[str, Any] = to_json(dataclasses.replace(service, wrappers=()))
    del data[_LEFT_OUT]
    return data


def service_from_json(data: object) -> Service:
    """The service again. Options that a later version added have their defaults, and those that a
    later version wrote are reported and ignored.

    @raise Unreadable: an option is missing or of a wrong kind.
    """
    service = from_json(Service, data, "service")
    assert isinstance(service, Service)
    return service


def fingerprint(service: Service) -> str:
    """A short text that differs between services that differ, wrappers included."""
    text = _ADDRESS.sub("", repr(service))
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:32]


def to_json(value: Any) -> Any:
    """A value of dataclasses, tuples and the like as plain JSON."""
    if dataclasses.is_dataclass(value):
        fields = dataclasses.fields(value)
        return {field.name: to_json(getattr(value, field.name)) for field in fields}
    if isinstance(value, tuple):
        return [to_json(each) for each in value]
    return str(value) if isinstance(value, Path) else value


def warn_of_unknown(data: Iterable[str], known: Collection[str], where: str) -> None:
    """Report keys that this version does not know, and ignores."""
    for name in sorted(set(data) - set(known)):
        key = f"{where}.{name}" if where else name
        _log.warn("the saved state has {key}, which is not known, and is ignored", key=key)


def from_json(kind: Any, data: Any, where: str) -> Any:
    """The value again.

    @param kind: its type.
    @raise Unreadable: it is not of that type.
    """
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _dataclass(kind, data, where)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _one_of(arguments, data, where)
    if origin is tuple:
        if not isinstance(data, list):
            raise Unreadable(f"{where} is no list")
        if arguments[-1] is ...:
            arguments = arguments[:1] * len(data)
        if len(arguments) != len(data):
            raise Unreadable(f"{where} is of a wrong length")
        pairs = enumerate(zip(arguments, data, strict=True))
        return tuple(from_json(each, value, f"{where}[{n}]") for n, (each, value) in pairs)
    if kind is Path and isinstance(data, str):
        return Path(data)
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    if not isinstance(data, kind) or (kind is int and isinstance(data, bool)):
        raise Unreadable(f"{where} is of a wrong kind")
    return data


def _one_of(kinds: tuple[Any, ...], data: Any, where: str) -> Any:
    for kind in kinds:
        try:
            return from_json(kind, data, where)
        except Unreadable:
            continue
    raise Unreadable(f"{where} is of a wrong kind")


def _dataclass(kind: Any, data: Any, where: str) -> Any:
    if not isinstance(data, dict):
        raise Unreadable(f"{where} is no map")
    hints = get_type_hints(kind)
    hints.pop(_LEFT_OUT, None)
    warn_of_unknown(data, hints, where)
    known = hints.keys() & data.keys()
    values = {name: from_json(hints[name], data[name], f"{where}.{name}") for name in known}
    try:
        return kind(**values)
    except TypeError as error:
        raise Unreadable(f"{where}: {error}") from error
