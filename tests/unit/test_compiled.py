"""The declarations for the compiled build, which are read by a compiler and nobody else, hold."""

from __future__ import annotations

import importlib
import os
import re
from pathlib import Path

import pytest

import kproxy

FOLDER = Path(__file__).parents[2] / "kproxy"
DECLARED = sorted(FOLDER.rglob("*.pxd"))
_CLASS = re.compile(r"^cdef class (\w+)(?:\(.*\))?:\n((?:(?: {4}.*)?\n)*)", re.MULTILINE)
_ATTRIBUTES = re.compile(
    r"^ {4}cdef (?:public |readonly )?(?:long long|\w+) ([\w, ]+)$", re.MULTILINE
)
_METHODS = re.compile(r"^ {4}c(?:p?)def (?:[\w]+ )?(\w+)\(", re.MULTILINE)


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(FOLDER.parent).with_suffix("").parts)


def classes() -> list[tuple[str, str, str]]:
    return [
        (module_of(path), name, body)
        for path in DECLARED
        for name, body in _CLASS.findall(path.read_text())
    ]


def test_there_are_declarations() -> None:
    assert len(classes()) > 10


@pytest.mark.parametrize(("module", "name", "body"), classes())
def test_a_class_declares_the_attributes_that_its_slots_name(
    module: str, name: str, body: str
) -> None:
    found = getattr(importlib.import_module(module), name)
    declared = {
        attribute.strip() for line in _ATTRIBUTES.findall(body) for attribute in line.split(",")
    }
    assert declared == set(found.__dict__.get("__slots__", ()))


@pytest.mark.parametrize(("module", "name", "body"), classes())
def test_a_class_has_the_methods_that_are_declared(module: str, name: str, body: str) -> None:
    source = (FOLDER.parent / module.replace(".", "/")).with_suffix(".py").read_text()
    for method in _METHODS.findall(body):
        assert f"    def {method}(self" in source


def test_what_was_to_be_compiled_is() -> None:
    if os.environ.get("KPROXY_COMPILE") != "1":
        pytest.skip("nobody asked for it")
    http1 = importlib.import_module("kproxy.http.http1")
    assert Path(kproxy.__file__).parent in Path(http1.__file__ or "").parents
    assert not (http1.__file__ or "").endswith(".py")
