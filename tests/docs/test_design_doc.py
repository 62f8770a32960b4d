"""The design speaks of what is there."""

from __future__ import annotations

import re

from kproxy.config.model import Buffering, Service, Target, WrapperUse
from kproxy.dataplane import DataPlane
from kproxy.tree import outer_chain, service_chain
from kproxy.wrappers.gate import GateControl
from tests.docs.pages import DOCS, blocks

FULL = Service(
    name="x",
    targets=(Target("a", 80),),
    path_prefixes=("/api",),
    ssl=True,
    error_pages=((404, "no"),),
    canonical_host="a.b",
    scope_cookie_paths=True,
    wrappers=(WrapperUse("those of deploy.yml", None),),
)


def chain(name: str) -> list[str]:
    (text,) = (block.text for block in blocks(DOCS / "design.md") if block.name == name)
    return [link.strip() for link in text.split("→")]


def test_the_outer_chain_is_the_one_of_the_tree() -> None:
    assert [link.name for link in outer_chain(lambda line: None)] == chain("outer chain")


def test_the_chain_of_a_service_with_everything_is_the_one_of_the_tree() -> None:
    links = service_chain(FULL, GateControl(None), lambda work, done: None, readers=True)  # type: ignore[arg-type]
    assert [link.name for link in links] == chain("service chain")


def test_a_limit_stands_in_for_the_buffer_where_requests_stream() -> None:
    service = Service("x", (), buffering=Buffering(requests=False, max_request_body=5))
    links = service_chain(service, GateControl(None), lambda work, done: None)  # type: ignore[arg-type]
    names = [link.name for link in links]
    assert "request-limit" in names
    assert "request-buffer" not in names


def test_the_control_plane_knows_four_methods_of_the_data_plane() -> None:
    text = (DOCS / "design.md").read_text("utf-8")
    (sentence,) = re.findall(r"stand\s+four\s+methods: (.*?)\.\s", text, re.S)
    names = re.findall(r"`(\w+)\(", sentence)
    assert len(names) == 4
    for name in names:
        assert callable(getattr(DataPlane, name))
