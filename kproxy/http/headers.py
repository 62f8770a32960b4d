"""Header fields that cost little: Twisted's `Headers` interface over the lines of a message.

A proxy mostly looks at a few fields, changes a few, and passes the rest on. So a field is kept as its
*wire text* beside its value, and serializing a message is one join. `FieldCache` remembers lines that
were seen before: browsers and applications repeat nearly all of theirs.

One entry of the mapping is ``name in lower case -> Field``, and a `Field` is a tuple: the wire text
(``Name: value``, several lines where the field was repeated), then each value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, AnyStr, TypeVar, overload

from twisted.web.http_headers import Headers

Field = tuple[bytes, ...]
Pairs = list[tuple[bytes, bytes]]
_T = TypeVar("_T")
_new = object.__new__
_BREAKS = b"\r\n\0"

TOKEN = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
"""Octets of a token, RFC 9110 section 5.6.2."""
FIELD_VALUE = bytes([9, *range(32, 127), *range(128, 256)])
"""Octets of a field value, RFC 9110 section 5.5."""


class BadField(ValueError):
    """A line that is not a header field; the text says why, for the log."""


def parse_field(line: bytes) -> tuple[bytes, Field]:
    """Read one line, without its CRLF, as RFC 9112 section 5 has it, and nothing more lenient.

    @return: the name in lower case, and the field with its wire text written afresh.
    @raise BadField: white space before the colon, folding, a control character, an empty name.
    """
    name, colon, value = line.partition(b":")
    if not colon or not name or name.translate(None, TOKEN):
        raise BadField("a header name is not a token")
    value = value.strip(b" \t")
    if value.translate(None, FIELD_VALUE):
        raise BadField("a header value holds a control character")
    return name.lower(), (name + b": " + value, value)


class FieldCache:
    """Lines that `parse_field` has read, so that reading them again is one look-up.

    An entry is the name, the field, and the mark that the name has (0 if none), so that what is rare
    and matters need not be searched for in every message. What it holds is bounded, since clients
    decide what is in it, and lines that carry credentials are left out.

    @ivar entries: those that are remembered; `read` makes any other.
    """

    LONGEST_LINE = 256
    MOST_LINES = 2048
    SECRET = frozenset((b"cookie", b"set-cookie", b"authorization", b"proxy-authorization"))

    __slots__ = ("_marks", "entries")

    def __init__(self, marks: Mapping[bytes, int]) -> None:
        self.entries: dict[bytes, tuple[bytes, Field, int]] = {}
        self._marks = marks

    def read(self, line: bytes) -> tuple[bytes, Field, int]:
        """The entry of a line that is not remembered.

        @raise BadField: see `parse_field`.
        """
        key, field = parse_field(line)
        entry = (key, field, self._marks.get(key, 0))
        if len(line) <= self.LONGEST_LINE and key not in self.SECRET:
            if len(self.entries) >= self.MOST_LINES:
                self.entries.clear()
            self.entries[line] = entry
        return entry


_MOST_NAMES = 1024
_names: dict[bytes | str, tuple[bytes, bytes]] = {}
"""Spelling of a name -> (lower case, ``Title-Case: ``), for names that code uses. A plain dict, and
the one piece of module state: it holds nothing but what `_name` would work out again."""


def _name(name: bytes | str) -> tuple[bytes, bytes]:
    entry = _names.get(name)
    if entry is None:
        raw = name.encode("iso-8859-1") if isinstance(name, str) else bytes(name)
        if not raw or raw.translate(None, TOKEN):
            raise BadField(f"{name!r} is not a header name")
        title = b"-".join([part.capitalize() for part in raw.split(b"-")])
        entry = (raw.lower(), title + b": ")
        if len(raw) <= FieldCache.LONGEST_LINE:
            if len(_names) >= _MOST_NAMES:
                _names.clear()
            _names[name] = entry
    return entry


def _clean(value: bytes | str) -> bytes:
    """A value as it may go on the wire: a line break would begin another header."""
    raw = value.encode("utf-8") if isinstance(value, str) else value
    if len(raw.translate(None, _BREAKS)) == len(raw):
        return raw
    return b" ".join(raw.replace(b"\0", b" ").splitlines())


def _by_name(headers: Headers) -> dict[bytes, list[bytes]]:
    return {name.lower(): list(values) for name, values in headers.getAllRawHeaders()}


class FieldMap(Headers):
    """Twisted's `Headers`, over a mapping of fields as `parse_field` makes them.

    Names keep the spelling in which they came, and names and repeated values their order.
    """

    __slots__ = ("fields",)

    fields: dict[bytes, Field]

    def __init__(self, rawHeaders: Mapping[Any, Sequence[Any]] | None = None) -> None:
        self.fields = {}
        if rawHeaders:
            for name, values in rawHeaders.items():
                self.setRawHeaders(name, values)

    @classmethod
    def of(cls, fields: dict[bytes, Field]) -> FieldMap:
        """Headers over these fields, which are taken over."""
        self = _new(cls)
        self.fields = fields
        return self

    def first(self, key: bytes) -> bytes | None:
        """The first value of a field by its lower-case name, or None. The quick way to look."""
        field = self.fields.get(key)
        return None if field is None else field[1]

    def lines(self) -> list[bytes]:
        """The wire text of every field, without the last CRLF of each."""
        return [field[0] for field in self.fields.values()]

    def add_pair(self, name: bytes, value: bytes) -> None:
        """Add a field that was parsed elsewhere, in its own spelling."""
        self._add(name.lower(), name + b": " + value, value)

    def _add(self, key: bytes, line: bytes, value: bytes) -> None:
        old = self.fields.get(key)
        if old is None:
            self.fields[key] = (line, value)
        else:
            self.fields[key] = (old[0] + b"\r\n" + line, *old[1:], value)

    # What Twisted's Headers offers, by any spelling of a name, bytes or str.

    @property
    def _rawHeaders(self) -> dict[bytes, list[bytes]]:  # type: ignore[override]
        return {key: list(field[1:]) for key, field in self.fields.items()}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Headers) and _by_name(self) == _by_name(other)

    __hash__ = None  # type: ignore[assignment]

    def copy(self) -> FieldMap:
        return FieldMap.of(self.fields.copy())

    def hasHeader(self, name: bytes | str) -> bool:
        entry = _names.get(name) or _name(name)
        return entry[0] in self.fields

    def removeHeader(self, name: bytes | str) -> None:
        self.fields.pop(_name(name)[0], None)

    def setRawHeaders(self, name: bytes | str, values: Sequence[bytes | str]) -> None:
        key, prefix = _names.get(name) or _name(name)
        if len(values) == 1:
            value = values[0]
            if value.__class__ is not bytes or value.translate(None, _BREAKS) is not value:
                value = _clean(value)
            self.fields[key] = (prefix + value, value)
            return
        clean = [_clean(value) for value in values]
        if clean:
            self.fields[key] = (b"\r\n".join([prefix + value for value in clean]), *clean)
        else:
            self.fields.pop(key, None)

    def addRawHeader(self, name: bytes | str, value: bytes | str) -> None:
        key, prefix = _name(name)
        clean = _clean(value)
        self._add(key, prefix + clean, clean)

    @overload
    def getRawHeaders(self, name: AnyStr) -> Sequence[AnyStr] | None: ...
    @overload
    def getRawHeaders(self, name: AnyStr, default: _T) -> Sequence[AnyStr] | _T: ...
    def getRawHeaders(self, name: bytes | str, default: Any = None) -> Any:
        entry = _names.get(name) or _name(name)
        field = self.fields.get(entry[0])
        if field is None:
            return default
        if isinstance(name, str):
            return [value.decode("utf-8") for value in field[1:]]
        return list(field[1:])

    def getAllRawHeaders(self) -> Iterator[tuple[bytes, Sequence[bytes]]]:
        for key, field in self.fields.items():
            yield _name(key)[1][:-2], field[1:]
