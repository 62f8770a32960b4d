"""How many clients there may be is decided by how many files may be open."""

from __future__ import annotations

import select

from tests.e2e.support.stage import Stage
from tests.e2e.support.targets import says
from tests.e2e.support.wire import request_text

DESCRIPTORS = 200
LIMIT = (DESCRIPTORS - 64) // 2
"""64 are kept for other things, and each client may need a connection to a target."""


def test_past_the_limit_clients_wait_their_turn_and_the_others_are_served_on(
    stage: Stage,
) -> None:
    config = stage.deploy({"app": {"hosts": [stage.target(says("hello")).address]}})
    proxy = stage.proxy(
        config, healthy=("app.example",), descriptors=DESCRIPTORS, KPROXY_WORKERS="0"
    )  # each process has its own limit
    served = []
    for _ in range(LIMIT):
        wire = proxy.connect()
        wire.send(request_text())
        assert wire.read_response().status == 200
        served.append(wire)
    waiting = [proxy.connect() for _ in range(LIMIT // 2)]
    for wire in waiting:
        wire.send(request_text(path="/waited"))
    # Those who are in are served, again and again, and meanwhile nobody else is.
    for _ in range(3):
        for wire in served:
            wire.send(request_text())
            assert wire.read_response().status == 200
    assert not select.select([wire.sock for wire in waiting], [], [], 0)[0]
    proxy.said(f"{LIMIT} connections are open")
    # Each that leaves lets another in.
    for wire in served:
        wire.close()
    for wire in waiting:
        assert wire.read_response().text == "hello"
        wire.close()
    proxy.logged(count=len(waiting), path="/waited", status=200)
    assert proxy.get().text == "hello"


def test_a_crowd_that_comes_at_once_is_served_to_the_last(stage: Stage) -> None:
    config = stage.deploy({"app": {"hosts": [stage.target(says("hello")).address]}})
    proxy = stage.proxy(config, healthy=("app.example",), descriptors=DESCRIPTORS)
    crowd = [proxy.connect() for _ in range(4 * LIMIT)]
    for wire in crowd:
        wire.send(request_text(headers={"Connection": "close"}))
    for wire in crowd:
        assert wire.read_response().text == "hello"
        wire.close()
