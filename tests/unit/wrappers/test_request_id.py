"""X-Request-ID (behaviour.md section 4)."""

from __future__ import annotations

import re

from kproxy.wrappers.request_id import Options, RequestID
from tests.unit.wrappers.support import Echo, Serve, echoed, get

UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def test_a_request_without_an_id_gets_a_version_4_uuid(serve: Serve) -> None:
    told = echoed(serve(RequestID(Echo())).ask())
    (made,) = told["headers"]["x-request-id"]
    assert UUID4.fullmatch(made)


def test_the_clients_own_id_is_kept(serve: Serve) -> None:
    told = echoed(serve(RequestID(Echo())).ask(get("/", "X-Request-Id: mine 1")))
    assert told["headers"]["x-request-id"] == ["mine 1"]


def test_each_request_gets_an_id_of_its_own(serve: Serve) -> None:
    site = serve(RequestID(Echo()))
    made = [echoed(site.ask())["headers"]["x-request-id"][0] for _ in range(600)]
    assert len(set(made)) == 600
    assert all(map(UUID4.fullmatch, made))


def test_ids_come_from_the_randomness_that_was_passed_in(serve: Serve) -> None:
    options = Options(random=lambda count: b"\xab" * count)
    (made,) = echoed(serve(RequestID(Echo(), options)).ask())["headers"]["x-request-id"]
    assert UUID4.fullmatch(made)
    # But for version and variant.
    assert set(made[:14] + made[15:19] + made[20:]) == {"a", "b", "-"}


def test_two_processes_make_different_ids(serve: Serve) -> None:
    made = [echoed(serve(RequestID(Echo())).ask())["headers"]["x-request-id"][0] for _ in "12"]
    assert made[0][:8] != made[1][:8]
    assert made[0][24:] != made[1][24:]
