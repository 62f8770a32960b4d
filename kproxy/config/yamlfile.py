"""From a file to a `Node`: encoding, ERB, YAML syntax, merge keys, duplicate keys.

Everything that can be wrong with a file before one asks what its keys mean is found here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from kproxy.config.erb import Rendered, render
from kproxy.config.node import Entry, Node, Position, Raw, Rejected, Report, short_tag

# libyaml's parser takes a tenth of the time, but not every wheel has it.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_DEEPEST = 200
"""How many maps and lists may stand in one another."""


def read_map(path: Path, environ: Mapping[str, str], report: Report) -> Node:
    """Read a file that holds a YAML map.

    @param environ: what ERB tags are rendered from.
    @raise Rejected: when there is no map to go on with; the report has been told.
    """
    name = str(path)
    report.files.append(name)
    rendered = render(_read_text(path, report), environ)
    for fault in rendered.faults:
        report.add(Position(name, fault.line, fault.column), "", fault.message)
    tree = _compose(name, rendered, report)
    node = Node(Raw(Position(name), "null") if tree is None else tree)
    if node.tag != "map":
        raise node.report(report, f"the file should hold a map, is {node.describe()}")
    return node


def _read_text(path: Path, report: Report) -> str:
    start = Position(str(path))
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        report.add(start, "", f"can't be read: {reason}")
        raise Rejected from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        report.add(Position(str(path), line), "", "is not UTF-8 text")
        raise Rejected from error


def _compose(name: str, rendered: Rendered, report: Report) -> Raw | None:
    try:
        if _too_deep(rendered.text):
            report.add(Position(name), "", "is nested too deeply")
            raise Rejected
        loader = _Loader(rendered.text)
        try:
            tree = loader.get_single_node()
        finally:
            loader.dispose()
        return None if tree is None else _Builder(name, rendered, report).build(tree, ())
    except yaml.MarkedYAMLError as error:
        # libyaml puts some of its messages, and their marks, into the context.
        mark = error.problem_mark or error.context_mark
        line, column = rendered.position(mark.line, mark.column) if mark else (1, 1)
        words = " ".join(filter(None, (error.problem, error.context)))
        report.add(Position(name, line, column), "", f"is not YAML: {words}")
        raise Rejected from error
    except (yaml.YAMLError, UnicodeError) as error:
        report.add(Position(name), "", f"is not YAML: {str(error).splitlines()[0]}")
        raise Rejected from error


def _too_deep(text: str) -> bool:
    """Whether composing the text could exhaust the stack, which libyaml answers with a crash."""
    # Nothing nests without one of these. Events are read without recursion, but take their time.
    if sum(map(text.count, "[{-:?")) <= _DEEPEST:
        return False
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _DEEPEST:
                return True
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
    return False


class _Builder:
    """Turns PyYAML's nodes, which aliases may tie into a knot, into a tree of `Raw`."""

    def __init__(self, name: str, rendered: Rendered, report: Report) -> None:
        self._name = name
        self._rendered = rendered
        self._report = report
        self._done: dict[int, Raw] = {}
        self._open: set[int] = set()

    def build(self, node: Any, path: tuple[str, ...]) -> Raw:
        """The `Raw` of a node, the same one each time that an alias leads to the node."""
        known = self._done.get(id(node))
        if known is not None:
            return known
        position = self._position(node)
        if id(node) in self._open:
            self._report.add(position, ".".join(path), "contains itself")
            raise Rejected
        self._open.add(id(node))
        tag = short_tag(node.tag)
        if isinstance(node, yaml.ScalarNode):
            raw = Raw(position, tag, text=node.value)
        elif isinstance(node, yaml.SequenceNode):
            elements = tuple(self.build(element, path) for element in node.value)
            raw = Raw(position, tag, elements=elements)
        else:
            raw = Raw(position, tag, entries=self._entries(node, path))
        self._open.discard(id(node))
        self._done[id(node)] = raw
        return raw

    def _position(self, node: Any) -> Position:
        mark = node.start_mark
        return Position(self._name, *self._rendered.position(mark.line, mark.column))

    def _entries(self, node: Any, path: tuple[str, ...]) -> dict[str, Entry]:
        entries: dict[str, Entry] = {}
        merged: dict[str, Entry] = {}
        for key_node, value_node in node.value:
            position = self._position(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                self._report.add(position, ".".join(path), "a key should be text")
                continue
            key = key_node.value
            if short_tag(key_node.tag) == "merge":
                for source in self._merge_sources(value_node, path):
                    for name, entry in source.entries.items():
                        merged.setdefault(name, entry)
                continue
            value = self.build(value_node, (*path, key))
            if key in entries:
                first = entries[key].position
                message = f"is given twice, first on line {first.line}"
                self._report.add(position, ".".join((*path, key)), message)
                continue
            entries[key] = Entry(position, value)
        for key, entry in merged.items():
            entries.setdefault(key, entry)
        return entries

    def _merge_sources(self, node: Any, path: tuple[str, ...]) -> list[Raw]:
        raw = self.build(node, path)
        sources = list(raw.elements) if raw.tag == "seq" else [raw]
        for source in sources:
            if source.tag != "map":
                self._report.add(self._position(node), ".".join(path), "<< should be given a map")
        return sources
