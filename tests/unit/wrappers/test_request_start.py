"""X-Request-Start (behaviour.md section 4)."""

from __future__ import annotations

from kproxy.wrappers.request_start import Options, RequestStart
from tests.unit.wrappers.support import Echo, Serve, echoed, get

OPTIONS = Options(now=lambda: 1_700_000_000.1239)


def test_it_is_the_milliseconds_since_the_epoch(serve: Serve) -> None:
    told = echoed(serve(RequestStart(Echo(), OPTIONS)).ask())
    assert told["headers"]["x-request-start"] == ["t=1700000000123"]


def test_what_a_proxy_before_this_one_has_set_is_kept(serve: Serve) -> None:
    request = get("/", "X-Request-Start: t=12")
    told = echoed(serve(RequestStart(Echo(), OPTIONS)).ask(request))
    assert told["headers"]["x-request-start"] == ["t=12"]
