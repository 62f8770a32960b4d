"""`IStreamingRequest`, which a stock request is taught and kproxy's own has from the beginning."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest
from twisted.internet import _producer_helpers
from twisted.internet.task import Clock, Cooperator
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET
from zope.interface.verify import verifyObject

from kproxy.interfaces import IBody, IResponseSink, IStreamingRequest
from kproxy.stored import PIECE, FileBody
from kproxy.streaming import streaming
from kproxy.wrappers.base import Filter, Wrapper
from tests.unit.wrappers.support import (
    SITES,
    Held,
    Producer,
    Says,
    Serve,
    _Served,
    chunked,
    get,
    post,
)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    soon = Cooperator(scheduler=lambda call: clock.callLater(0, call))
    monkeypatch.setattr(_producer_helpers, "cooperate", soon.cooperate)
    return clock


@pytest.fixture(params=SITES, ids=["stock Site", "kproxy's engine"])
def serve(request: pytest.FixtureRequest, clock: Clock) -> Serve:
    def behind(resource: IResource) -> _Served:
        served: _Served = request.param(resource, clock)
        return served

    return behind


# A body that is all there.


class Receiver:
    """Takes a body; pauses it after each piece if it should."""

    def __init__(self, pauses: IBody | None = None) -> None:
        self.pauses = pauses
        self.pieces: list[bytes] = []
        self.ends: list[list[tuple[bytes, bytes]]] = []

    def body_data(self, data: bytes) -> None:
        self.pieces.append(data)
        if self.pauses is not None:
            self.pauses.pause()

    def body_end(self, trailers: list[tuple[bytes, bytes]]) -> None:
        self.ends.append(trailers)

    def body_lost(self, reason: Exception) -> None:
        raise AssertionError(reason)


CONTENT = bytes(range(256)) * 1000


def stored(content: bytes = CONTENT, trailers: Any = None) -> FileBody:
    return FileBody(BytesIO(content), len(content), trailers)


def test_a_file_body_keeps_its_contract() -> None:
    assert verifyObject(IBody, stored())


def test_a_file_body_comes_in_pieces_of_a_bounded_size_then_its_trailers() -> None:
    receiver = Receiver()
    stored(CONTENT, [(b"X-Sum", b"1")]).start(receiver)
    assert b"".join(receiver.pieces) == CONTENT
    assert max(map(len, receiver.pieces)) <= PIECE
    assert receiver.ends == [[(b"X-Sum", b"1")]]


def test_an_empty_file_body_is_only_an_end() -> None:
    receiver = Receiver()
    stored(b"").start(receiver)
    assert (receiver.pieces, receiver.ends) == ([], [[]])


def test_a_file_body_goes_at_the_pace_of_its_receiver() -> None:
    body = stored()
    receiver = Receiver(pauses=body)
    body.start(receiver)
    assert len(receiver.pieces) == 1
    while not receiver.ends:
        before = len(receiver.pieces)
        body.resume()
        assert len(receiver.pieces) <= before + 1
    assert b"".join(receiver.pieces) == CONTENT
    assert receiver.ends == [[]]


def test_a_file_body_that_is_stopped_sends_nothing_more() -> None:
    body = stored()
    receiver = Receiver(pauses=body)
    body.start(receiver)
    body.stop()
    body.resume()
    assert len(receiver.pieces) == 1
    assert receiver.ends == []


def test_a_file_body_can_be_sent_again_after_a_part_of_it_was() -> None:
    body = stored()
    body.start(Receiver(pauses=body))
    second = Receiver()
    body.start(second)
    assert b"".join(second.pieces) == CONTENT


def test_a_file_body_can_be_sent_again_at_its_own_end() -> None:
    body = stored()
    second = Receiver()

    class Again(Receiver):
        def body_end(self, trailers: list[tuple[bytes, bytes]]) -> None:
            body.start(second)

    body.start(Again())
    assert b"".join(second.pieces) == CONTENT
    assert second.ends == [[]]


# What a request offers.


class Sees(Resource):
    """Looks at a request with a function, and answers what that returns."""

    isLeaf = True
    streams = True

    def __init__(self, look: Callable[[Any], Any]) -> None:
        super().__init__()
        self.look = look

    def render(self, request: Any) -> Any:
        return self.look(streaming(request))


def seen(serve: Serve, look: Callable[[Any], Any], request: bytes = get()) -> Any:
    """What a function makes of a request."""
    found = []

    def render(request: Any) -> bytes:
        found.append(look(request))
        return b""

    assert serve(Sees(render)).ask(request).code == 200
    return found[0]


def test_it_is_the_same_request_and_can_be_asked_for_again(serve: Serve) -> None:
    assert seen(serve, lambda request: streaming(streaming(request)) is request)


def test_the_whole_interface_is_there(serve: Serve) -> None:
    names = set(IStreamingRequest.names())
    assert seen(serve, IStreamingRequest.providedBy)
    assert (
        seen(serve, lambda request: {name for name in names if not hasattr(request, name)}) == set()
    )


def test_notes_belong_to_one_request(serve: Serve) -> None:
    def note(request: Any) -> bytes:
        request.notes["n"] = request.notes.get("n", 0) + 1
        return b"%d" % request.notes["n"]

    client = serve(Sees(note)).connect()
    client.send(get() + get())
    assert [response.body for response in client.responses()] == [b"1", b"1"]


@pytest.mark.parametrize(("target", "query"), [("/x?a=%2F&b??", b"a=%2F&b??"), ("/x", b"")])
def test_the_query_is_there_byte_for_byte(serve: Serve, target: str, query: bytes) -> None:
    assert seen(serve, lambda request: request.query, get(target)) == query


@pytest.mark.parametrize(
    ("request_bytes", "native", "stock"),
    [(get(), 0, 0), (post(b"12345"), 5, 5), (chunked(b"12345"), None, 5)],
    ids=["none", "length", "chunks"],
)
def test_a_body_has_the_length_that_is_known(
    serve: Serve, request_bytes: bytes, native: int | None, stock: int
) -> None:
    expected = native if serve(Says()).native else stock
    assert seen(serve, lambda request: request.body.length, request_bytes) == expected


@pytest.mark.parametrize("request_bytes", [post(CONTENT), chunked(CONTENT[:1000], CONTENT[1000:])])
def test_a_body_flows_into_its_receiver(serve: Serve, request_bytes: bytes) -> None:
    receiver = Receiver()

    def take(request: Any) -> bytes:
        request.body.start(receiver)
        return b""

    serve(Sees(take)).connect().send(request_bytes)
    assert b"".join(receiver.pieces) == CONTENT
    assert receiver.ends == [[]]


def test_a_request_without_a_body_has_an_end_at_once(serve: Serve) -> None:
    receiver = Receiver()
    seen(serve, lambda request: request.body.start(receiver))
    assert (receiver.pieces, receiver.ends) == ([], [[]])


def test_the_end_is_told_once_to_all_in_order(serve: Serve) -> None:
    told: list[tuple[str, object, object]] = []
    leaf = Held()
    client = serve(Wrapper(leaf)).connect()
    client.send(get())
    request = streaming(leaf.request)
    request.on_finish(lambda ended, failure: told.append(("first", ended is request, failure)))
    request.on_finish(lambda ended, failure: told.append(("second", ended is request, failure)))
    request.write(b"x")
    assert told == []
    request.finish()
    client.leave()
    assert told == [("first", True, None), ("second", True, None)]


def test_who_fails_at_the_end_keeps_nobody_else_waiting(serve: Serve) -> None:
    def fail(request: Any, failure: Any) -> None:
        raise ZeroDivisionError

    told: list[Any] = []
    leaf = Held()
    client = serve(Wrapper(leaf)).connect()
    client.send(get())
    streaming(leaf.request).on_finish(fail)
    leaf.request.on_finish(lambda request, failure: told.append(failure))
    leaf.request.setHeader(b"content-length", b"0")
    leaf.request.finish()
    assert told == [None]
    client.send(get())
    leaf.request.finish()
    assert len(client.responses()) == 2


def test_the_end_is_told_with_a_failure_if_the_client_left(serve: Serve) -> None:
    told: list[Any] = []
    leaf = Held()
    client = serve(Wrapper(leaf)).connect()
    client.send(get())
    streaming(leaf.request).on_finish(lambda request, failure: told.append(failure))
    leaf.request.notifyFinish().addErrback(told.append)
    client.leave()
    assert len(told) == 2
    assert None not in told


def test_a_response_has_begun_when_a_part_of_it_has_left(serve: Serve) -> None:
    leaf = Held()
    client = serve(Wrapper(leaf)).connect()
    client.send(get())
    request = streaming(leaf.request)
    assert not request.begun()
    request.write(b"x")
    assert request.begun()


def test_an_abort_cuts_the_client_off(serve: Serve) -> None:
    leaf = Held()
    client = serve(Wrapper(leaf)).connect()
    client.send(get())
    streaming(leaf.request).write(b"half")
    leaf.request.abort()
    assert client.cut
    assert not client.response().complete


def test_an_interim_response_goes_ahead_where_the_server_can(serve: Serve) -> None:
    leaf = Held()
    site = serve(Wrapper(leaf))
    client = site.connect()
    client.send(get())
    request = streaming(leaf.request)
    request.inform(103, [(b"Link", b"</a.css>; rel=preload")])
    request.write(b"x")
    request.finish()
    *interim, final = client.responses()
    assert final.body == b"x"
    hints = [response.header(b"link") for response in interim if response.code == 103]
    assert hints == ([b"</a.css>; rel=preload"] if site.native else [])


def test_a_stock_site_can_not_give_a_connection_away(serve: Serve) -> None:
    leaf = Held()
    site = serve(Wrapper(leaf))
    site.connect().send(get())
    if not site.native:
        assert not streaming(leaf.request).switch_protocols(101, [], object(), b"")


# Filters.


class Log(Filter):
    """Writes down what passes, and passes it on in brackets."""

    def __init__(self, request: Any, sink: Any, name: str, log: list[str]) -> None:
        super().__init__(request, sink)
        self.name = name
        self.log = log

    def _note(self, what: str) -> None:
        self.log.append(f"{self.name} {what}")

    def begin(self) -> None:
        self._note("begin")
        super().begin()

    def write(self, data: bytes) -> None:
        self._note(data.decode())
        super().write(b"%b(%b)" % (self.name.encode(), data))

    def finish(self) -> None:
        self._note("finish")
        super().finish()

    def stop(self) -> None:
        self._note("stop")
        super().stop()


class Filtered(Wrapper):
    """Puts a filter around what it wraps."""

    def __init__(self, wrapped: Any, make: Any, *arguments: Any) -> None:
        super().__init__(wrapped)
        self.make = make
        self.arguments = arguments

    def render(self, request: Any) -> Any:
        streaming(request).add_filter(
            lambda request, sink: self.make(request, sink, *self.arguments)
        )
        return super().render(request)


def test_a_filter_passes_everything_on() -> None:
    assert verifyObject(IResponseSink, Filter(None, None))


def test_what_is_inside_is_filtered_first(serve: Serve) -> None:
    log: list[str] = []
    inner = Filtered(Says(b"1", b"2"), Log, "b", log)
    assert serve(Filtered(inner, Log, "a", log)).ask().body == b"a(b(1))a(b(2))"
    assert log == ["b begin", "a begin", "b 1", "a b(1)", "b 2", "a b(2)", "b finish", "a finish"]


def test_a_response_without_a_body_passes_a_filter_too(serve: Serve) -> None:
    log: list[str] = []
    leaf = Held()
    client = serve(Filtered(leaf, Log, "a", log)).connect()
    client.send(get())
    leaf.request.setHeader(b"content-length", b"0")
    leaf.request.finish()
    assert log == ["a begin", "a finish"]
    assert client.response().complete


@pytest.mark.parametrize("later", [False, True], ids=["at once", "later"])
def test_a_filter_sees_and_changes_status_and_headers_at_the_beginning(
    serve: Serve, later: bool
) -> None:
    found: list[Any] = []

    class Changes(Filter):
        def begin(self) -> None:
            headers = self.request.responseHeaders
            found.append((self.request.code, dict(headers.getAllRawHeaders())))
            self.request.setResponseCode(202)
            headers.removeHeader(b"x-secret")
            headers.setRawHeaders(b"etag", [b'W/"1"'])
            super().begin()

    leaf = Held()
    client = serve(Filtered(leaf, Changes)).connect()
    client.send(get())
    leaf.request.setResponseCode(201)
    leaf.request.setHeader(b"x-secret", b"1")
    leaf.request.setETag(b'"1"')
    leaf.request.setLastModified(0)
    if later:
        leaf.request.write(b"x")
    leaf.request.finish()
    response = client.response()
    assert response.code == 202
    assert response.header(b"x-secret") is None
    assert response.header(b"etag") == b'W/"1"'
    assert response.header(b"last-modified") == b"Thu, 01 Jan 1970 00:00:00 GMT"
    ((code, headers),) = found
    assert code == 201
    names = {name.lower(): list(values) for name, values in headers.items()}
    assert names[b"content-type"] == [b"text/html"]
    assert names[b"etag"] == [b'"1"']
    assert names[b"last-modified"] == [b"Thu, 01 Jan 1970 00:00:00 GMT"]


def test_a_filter_may_keep_the_response_and_pass_it_on_later(serve: Serve) -> None:
    class Waits(Filter):
        def begin(self) -> None: ...
        def write(self, data: bytes) -> None: ...
        def finish(self) -> None: ...

        def go(self) -> None:
            super().begin()
            super().write(b"now")
            super().finish()

    made: list[Waits] = []

    def make(request: Any, sink: Any) -> Waits:
        made.append(Waits(request, sink))
        return made[0]

    client = serve(Filtered(Says(b"1", b"2"), make)).connect()
    client.send(get())
    assert client.received == b""
    made[0].go()
    assert client.response().body == b"now"


def test_a_head_request_gets_no_body_whatever_a_filter_writes(serve: Serve) -> None:
    class Adds(Filter):
        def finish(self) -> None:
            super().write(b"more")
            super().finish()

    client = serve(Filtered(Says(b"1"), Adds)).connect()
    client.send(get(method="HEAD"))
    assert client.received.endswith(b"\r\n\r\n")
    assert client.response().code == 200


def test_a_filter_hears_once_that_the_client_left(serve: Serve) -> None:
    log: list[str] = []
    leaf = Held()
    client = serve(Filtered(Filtered(leaf, Log, "b", log), Log, "a", log)).connect()
    client.send(get())
    leaf.request.write(b"1")
    streaming(leaf.request).on_finish(lambda request, failure: log.append("told"))
    streaming(leaf.request).on_finish(lambda request, failure: log.append("told"))
    del log[:]
    client.leave()
    assert log == ["b stop", "a stop", "told", "told"]


def test_a_filter_gets_nothing_any_more_when_the_client_has_left(serve: Serve) -> None:
    log: list[str] = []
    leaf = Held()
    client = serve(Filtered(leaf, Log, "a", log)).connect()
    client.send(get())
    client.leave()
    leaf.request.write(b"1")
    with pytest.raises(RuntimeError):
        leaf.request.finish()
    assert log == ["a stop"]


def test_a_filter_hears_that_its_response_is_not_wanted_any_more(serve: Serve) -> None:
    class Keeps(Log):
        def begin(self) -> None:
            self._note("begin")

        def write(self, data: bytes) -> None:
            self._note(data.decode())

    log: list[str] = []
    leaf = Held()
    client = serve(Filtered(leaf, Keeps, "a", log)).connect()
    client.send(get())
    request = streaming(leaf.request)
    request.setHeader(b"x-old", b"1")
    request.addCookie("old", "1")
    request.setETag(b'"old"')
    request.setLastModified(0)
    request.write(b"1")
    assert not request.begun()
    request.restart_response()
    request.setResponseCode(502)
    request.write(b"page")
    request.finish()
    assert log == ["a begin", "a 1", "a stop"]
    response = client.response()
    assert (response.code, response.body) == (502, b"page")
    for name in (b"x-old", b"set-cookie", b"etag", b"last-modified"):
        assert response.header(name) is None


def test_who_goes_on_with_a_response_that_was_replaced_disturbs_nobody(serve: Serve) -> None:
    class Replaces(Filter):
        def begin(self) -> None: ...

        def write(self, data: bytes) -> None:
            self.request.restart_response()
            self.request.write(b"another")
            self.request.finish()

    client = serve(Filtered(Says(b"1", b"2", b"3"), Replaces)).connect()
    client.send(get())
    client.send(get())
    assert [response.body for response in client.responses()] == [b"another", b"another"]
    assert not client.cut


def test_a_filter_that_was_not_begun_filters_the_answer_that_comes_instead(serve: Serve) -> None:
    log: list[str] = []
    leaf = Held()
    client = serve(Filtered(leaf, Log, "a", log)).connect()
    client.send(get())
    leaf.request.setHeader(b"x-old", b"1")
    streaming(leaf.request).restart_response()
    leaf.request.write(b"page")
    leaf.request.finish()
    assert client.response().body == b"a(page)"
    assert client.response().header(b"x-old") is None


# Producers.


def test_a_push_producer_is_slowed_through_filters(serve: Serve) -> None:
    leaf, producer = Held(), Producer()
    client = serve(Filtered(leaf, Log, "a", [])).connect()
    client.send(get())
    leaf.request.registerProducer(producer, True)
    leaf.request.write(b"x")
    client.hurry(False)
    client.hurry(True)
    assert producer.told == ["pause", "resume"]
    leaf.request.unregisterProducer()
    client.hurry(False)
    assert producer.told == ["pause", "resume"]


def test_a_producer_that_a_filter_keeps_to_itself_is_stopped_when_the_client_leaves(
    serve: Serve,
) -> None:
    class Keeps(Filter):
        def register_producer(self, producer: Any) -> None: ...

    leaf, producer = Held(), Producer()
    client = serve(Filtered(leaf, Keeps)).connect()
    client.send(get())
    leaf.request.registerProducer(producer, True)
    client.leave()
    assert producer.told == ["stop"]


@pytest.mark.parametrize("filtered", [False, True])
def test_a_pull_producer_is_asked_until_it_has_no_more(serve: Serve, filtered: bool) -> None:
    class Pulled(Resource):
        isLeaf = True

        def render(self, request: Any) -> int:
            self.left = 3
            self.request = request
            request.registerProducer(self, False)
            return NOT_DONE_YET

        def resumeProducing(self) -> None:
            self.left -= 1
            self.request.write(b"%d" % self.left)
            if not self.left:
                self.request.unregisterProducer()
                self.request.finish()

        def stopProducing(self) -> None: ...

    leaf = Pulled()
    tree = Filtered(leaf, Log, "a", []) if filtered else Wrapper(leaf)
    assert serve(tree).ask().body == (b"a(2)a(1)a(0)" if filtered else b"210")
