"""Answers that have to wait for something."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred
from twisted.web.test.requesthelper import DummyRequest

from kproxy.control.answers import answer_later
from tests.unit.control.support import Log


def test_whoever_asks_is_answered_even_if_what_there_is_can_not_be_told() -> None:
    def make(_: None) -> tuple[int, object]:
        raise KeyError("app")

    request: Any = DummyRequest([b"services"])
    ready: Deferred[None] = Deferred()
    answer_later(request, ready, make)
    with Log():
        ready.callback(None)
    assert request.responseCode == 500
    assert json.loads(b"".join(request.written)) == {"error": "KeyError: 'app'"}
    assert request.finished == 1
