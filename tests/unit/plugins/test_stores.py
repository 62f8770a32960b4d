"""Certificate stores are announced, found and configured as wrappers are."""

from __future__ import annotations

from typing import Any

import pytest
from zope.interface.verify import verifyObject

from kproxy.interfaces import ICertificateStorePlugin
from kproxy.plugins import (
    CertificateStorePlugin,
    find_dns_responders,
    find_stores,
    find_wrappers,
)
from kproxy.tls.acme.stores import FolderOptions
from tests.unit.config.helpers import Files

STORES = find_stores()


def with_store(text: str) -> str:
    return f"service: app\nservers: [a]\nx-kproxy:\n  acme:\n    store: {text}\n"


def test_a_plug_in_keeps_its_contract() -> None:
    plugin = CertificateStorePlugin(name="a", description="", factory=lambda options, around: None)
    assert verifyObject(ICertificateStorePlugin, plugin)
    assert all(verifyObject(ICertificateStorePlugin, each) for each in STORES.values())


def test_stores_are_told_apart_from_wrappers_and_responders() -> None:
    assert list(STORES) == ["folder"]
    assert STORES.keys().isdisjoint(find_wrappers())
    assert STORES.keys().isdisjoint(find_dns_responders())


def test_a_store_is_made_with_its_options_and_what_it_may_use() -> None:
    plugin = CertificateStorePlugin("a", "", lambda *given: given)
    made: Any = plugin.store("options", "around")  # type: ignore[arg-type]
    assert made == ("options", "around")


def test_the_name_of_a_store_follows_the_same_rule() -> None:
    with pytest.raises(ValueError, match=r"^the name of a certificate store should be lower-case"):
        CertificateStorePlugin("A b", "", "x.y")


def test_a_folder_needs_its_path(files: Files) -> None:
    store = files.load(with_store("{folder: {path: /mnt/acme}}"), stores=STORES).acme.store
    assert store is not None
    assert store.options == FolderOptions("/mnt/acme")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("folder", "x-kproxy.acme.store.folder: path is missing"),
        ("{folder: {path: acme}}", 'should be an absolute path, is "acme"'),
        ("{folder: {pth: /a}}", 'did you mean "path"?'),
        ("folders", 'there is no certificate store "folders"; did you mean "folder"?'),
        ("[folder]", "should be NAME or NAME: {options} of one certificate store"),
    ],
)
def test_what_is_wrong_is_told(files: Files, text: str, expected: str) -> None:
    lines = files.problems(with_store(text), stores=STORES)
    assert any(expected in line for line in lines), lines
