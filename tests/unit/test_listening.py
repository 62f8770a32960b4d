"""Whether there has to be a port for HTTPS, and what happens where it can't be had."""

from __future__ import annotations

from typing import Any

import pytest

from kproxy import service
from kproxy.config import Configuration
from kproxy.config.model import Run, Service
from kproxy.service import CannotListen, bind_https


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is asked of the system, which has port 8443 and no other."""
    asked: list[Any] = []

    def bind_all(addresses: tuple[str, ...], port: int) -> list[Any]:
        asked.append((addresses, port))
        if port != 8443:
            raise CannotListen(f"port {port} is taken")
        return ["socket"]

    monkeypatch.setattr(service, "bind_all", bind_all)
    return asked


def configuration(*, ssl: bool = False, **run: Any) -> Configuration:
    return Configuration((Service("app", (), ssl=ssl),), Run(**run))


@pytest.mark.parametrize(
    ("option", "run", "port"),
    [(None, {}, 443), (None, {"https_port": 8443}, 8443), (8443, {}, 8443)],
)
def test_the_command_line_wins_over_the_file(
    asked: list[Any], option: int | None, run: Any, port: int
) -> None:
    bind_https(("::1",), option, configuration(**run))
    assert asked == [(("::1",), port)]


def test_a_proxy_listens_for_https_whether_or_not_a_service_has_it(asked: list[Any]) -> None:
    assert bind_https((), 8443, configuration()) == (["socket"], "")


def test_a_proxy_that_needs_no_https_goes_on_without(asked: list[Any]) -> None:
    assert bind_https((), None, configuration()) == ([], "port 443 is taken")


@pytest.mark.parametrize(
    ("option", "options"), [(None, {"ssl": True}), (None, {"https_port": 444}), (443, {})]
)
def test_where_somebody_counts_on_https_it_is_an_error(
    asked: list[Any], option: int | None, options: Any
) -> None:
    with pytest.raises(CannotListen):
        bind_https((), option, configuration(**options))


def test_port_0_is_no_https_at_all(asked: list[Any]) -> None:
    assert bind_https((), 0, configuration(ssl=True)) == ([], "")
    assert asked == []
