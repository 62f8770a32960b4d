"""RFC 9113 section 8: requests and responses, their fields, and what is made of them."""

from __future__ import annotations

from typing import Any

import pytest
from h2.errors import ErrorCodes
from hyperframe.frame import DataFrame, HeadersFrame

from kproxy.http.http2_heads import StreamHeadReader
from kproxy.wrappers.redirect import redirect

from .http2_client import GET, Pairs, RawClient, client, connect, fields, posting
from .memory import Echo, Engine, Later, Producer, Streaming, Upload

PROTOCOL_ERROR = ErrorCodes.PROTOCOL_ERROR


def raw(resource: Any = None) -> RawClient:
    return RawClient(connect(Engine(resource or Echo())))


class Answers(Streaming):
    """Answers each request by a function."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self._answer = answer

    def render(self, request: Any) -> Any:
        return self._answer(request)


# Section 8.1: messages.


def test_a_request_reaches_the_tree_as_any_other_does() -> None:
    echo = Echo()
    answer = client(Engine(echo)).ask(
        fields((b"user-agent", b"test"), (b"accept", b"*/*"), path=b"/a%20b/c?x=1&y")
    )
    (request,) = echo.seen
    assert answer.body == b"GET /a%20b/c?x=1&y"
    assert request.path == b"/a%20b/c"
    assert request.query == b"x=1&y"
    assert request.clientproto == b"HTTP/2.0"
    assert request.isSecure()
    assert request.getHeader(b"user-agent") == b"test"
    assert request.getHeader(b"Host") == b"example.com"
    assert request.getClientAddress().host == "192.0.2.7"
    assert request.getHost().port == 80


def test_the_fields_are_as_an_http1_target_wants_them() -> None:
    echo = Echo()
    client(Engine(echo)).ask(fields((b"a", b"1"), (b"b", b"2"), (b"a", b"3")))
    assert echo.seen[0].requestHeaders.lines() == [b"Host: example.com", b"a: 1\r\na: 3", b"b: 2"]


def test_a_small_response_is_two_frames() -> None:
    peer = raw(Answers(lambda request: b"hello"))
    peer.get()
    head, data = peer.read()
    assert isinstance(head, HeadersFrame)
    assert isinstance(data, DataFrame)
    assert "END_STREAM" in data.flags
    assert data.data == b"hello"


def test_a_body_arrives_whole_and_in_order() -> None:
    upload = Upload()
    body = bytes(range(256)) * 700
    answer = client(Engine(upload)).ask(posting(), body)
    assert upload.bodies[0].data == body
    assert upload.bodies[0].ended == []
    assert answer.body == body


def test_a_request_is_rendered_before_its_body_has_come() -> None:
    upload = Upload()
    peer = client(Engine(upload))
    stream = peer.request(posting(), end=False)
    assert len(upload.requests) == 1
    peer.data(stream, b"hello")
    assert upload.bodies[0].data == b"hello"
    assert upload.bodies[0].ended is None
    peer.data(stream, b"", end=True)
    assert upload.bodies[0].ended == []


@pytest.mark.parametrize(
    ("length", "known"), [((b"content-length", b"5"), 5), ((b"x-nothing", b"5"), None)]
)
def test_the_length_of_a_body_is_known_where_the_client_says_it(
    length: tuple[bytes, bytes], known: int | None
) -> None:
    upload = Upload()
    peer = client(Engine(upload))
    peer.request(posting(length), end=False)
    assert upload.requests[0].body.length == known


def test_a_request_that_ends_with_its_head_has_no_body() -> None:
    echo = Echo()
    client(Engine(echo)).ask(posting())
    assert echo.seen[0].body.length == 0


def test_trailers_of_a_request_arrive() -> None:
    upload = Upload()
    peer = client(Engine(upload))
    stream = peer.request(posting(), b"hello", end=False)
    peer.h2.send_headers(stream, [(b"x-checksum", b"1")], end_stream=True)
    peer.turn()
    assert upload.bodies[0].ended == [(b"x-checksum", b"1")]


def test_trailers_that_frame_or_route_are_dropped() -> None:
    upload = Upload()
    peer = raw(upload)
    trailers = [(b"content-length", b"5"), (b"host", b"evil"), (b"x-a", b"1")]
    peer.send(peer.headers(1, posting()), peer.headers(1, trailers, "END_STREAM"))
    assert upload.bodies[0].ended == [(b"x-a", b"1")]


def test_trailers_that_do_not_end_the_stream_are_an_error() -> None:
    peer = raw(Upload())
    peer.send(peer.headers(1, posting()), peer.headers(1, [(b"x-a", b"1")]))
    assert PROTOCOL_ERROR in (*peer.resets(), peer.goaway)


@pytest.mark.parametrize("trailer", [(b":path", b"/"), (b"X-A", b"1"), (b"connection", b"close")])
def test_malformed_trailers_are_a_stream_error(trailer: tuple[bytes, bytes]) -> None:
    upload = Upload()
    peer = raw(upload)
    peer.send(peer.headers(1, posting()), peer.headers(1, [trailer], "END_STREAM"))
    assert peer.resets() == [PROTOCOL_ERROR]
    assert upload.bodies[0].lost is not None
    assert peer.goaway is None


def test_trailers_of_a_response_are_sent() -> None:
    def answer(request: Any) -> bytes:
        request.write(b"hello")
        request.response_trailers = [(b"X-Checksum", b"1"), (b"Transfer-Encoding", b"chunked")]
        return b""

    got = client(Engine(Answers(answer))).ask()
    assert got.body == b"hello"
    assert got.trailers == [(b"x-checksum", b"1")]
    assert got.ended


def test_trailers_without_a_body_are_sent() -> None:
    later = Later()
    peer = client(Engine(later))
    stream = peer.request()
    later.requests[0].response_trailers = [(b"x-a", b"1")]
    later.requests[0].finish()
    peer.turn()
    assert peer.answers[stream].trailers == [(b"x-a", b"1")]


def test_interim_responses_are_passed_on() -> None:
    later = Later()
    peer = client(Engine(later))
    stream = peer.request()
    later.requests[0].inform(103, [(b"Link", b"</a.css>"), (b"Connection", b"close")])
    later.answer(0, b"done")
    peer.turn()
    answer = peer.answers[stream]
    assert answer.interim == [[(b":status", b"103"), (b"link", b"</a.css>")]]
    assert answer.status == 200
    assert answer.body == b"done"


def test_a_client_that_waits_for_100_continue_hears_it_when_its_body_is_wanted() -> None:
    later = Later()
    peer = client(Engine(later))
    stream = peer.request(posting((b"expect", b"100-continue")), end=False)
    assert peer.answers[stream].interim == []
    later.requests[0].body.start(Upload())
    peer.turn()
    assert peer.answers[stream].interim == [[(b":status", b"100")]]
    assert later.requests[0].getHeader(b"expect") is None


def test_another_expectation_is_refused() -> None:
    assert client(Engine(Echo())).ask(fields((b"expect", b"cake"))).status == 417


def test_the_answer_to_head_has_no_body() -> None:
    answer = client(Engine(Echo())).ask(fields(method=b"HEAD"))
    assert answer.body == b""
    assert answer.ended
    assert answer.get(b"content-length") == [b"6"]


@pytest.mark.parametrize("code", [204, 304])
def test_a_response_that_has_no_body_ends_with_its_head(code: int) -> None:
    def answer(request: Any) -> bytes:
        request.setResponseCode(code)
        return b""

    peer = raw(Answers(answer))
    peer.get()
    (head,) = peer.read()
    assert isinstance(head, HeadersFrame)
    assert "END_STREAM" in head.flags


def test_an_empty_response_ends_with_its_head() -> None:
    peer = raw(Answers(lambda request: b""))
    peer.get()
    (head,) = peer.read()
    assert "END_STREAM" in head.flags


def test_a_head_is_sent_alone_when_it_is_flushed() -> None:
    later = Later()
    peer = client(Engine(later))
    stream = peer.request()
    later.requests[0].write(b"")
    peer.turn()
    assert peer.answers[stream].status == 200
    assert not peer.answers[stream].ended


def test_a_response_without_a_length_ends_with_its_stream() -> None:
    later = Later()
    peer = client(Engine(later))
    stream = peer.request()
    later.requests[0].write(b"hello")
    later.requests[0].write(b" world")
    peer.turn()
    assert peer.answers[stream].body == b"hello world"
    later.requests[0].finish()
    peer.turn()
    assert peer.answers[stream].ended
    assert peer.answers[stream].get(b"transfer-encoding") == []


def test_headers_about_an_http1_connection_are_not_sent() -> None:
    def answer(request: Any) -> Any:
        for name in (b"Connection", b"Keep-Alive", b"Proxy-Connection", b"Transfer-Encoding"):
            request.setHeader(name, b"close")
        request.setHeader(b"Upgrade", b"h2c")
        request.setHeader(b"X-Mine", b"1")
        return redirect(request, b"https://example.com")

    answer_ = client(Engine(Answers(answer))).ask()
    names = [name for name, _ in answer_.headers]
    assert not {b"connection", b"keep-alive", b"proxy-connection", b"upgrade"} & set(names)
    assert b"transfer-encoding" not in names
    assert b"x-mine" in names


def test_connection_close_in_a_response_closes_nothing() -> None:
    def answer(request: Any) -> bytes:
        request.setHeader(b"connection", b"close")
        return b"hello"

    peer = client(Engine(Answers(answer)))
    assert peer.ask().body == b"hello"
    assert peer.ask().body == b"hello"


def test_names_are_lower_case_and_values_stripped() -> None:
    def answer(request: Any) -> bytes:
        request.setHeader(b"X-Upper", b" 1\t")
        request.responseHeaders.addRawHeader(b"Set-Cookie", b"a=1")
        request.responseHeaders.addRawHeader(b"Set-Cookie", b"b=2")
        return b""

    got = client(Engine(Answers(answer))).ask()
    assert got.get(b"x-upper") == [b"1"]
    assert got.get(b"set-cookie") == [b"a=1", b"b=2"]


def test_a_field_that_is_very_long_is_sent_in_several_frames() -> None:
    def answer(request: Any) -> bytes:
        request.setHeader(b"x-long", b"y" * 40000)
        return b"body"

    got = client(Engine(Answers(answer))).ask()
    assert got.get(b"x-long") == [b"y" * 40000]
    assert got.body == b"body"


def test_a_response_may_come_before_the_request_has_ended() -> None:
    later = Later()
    peer = client(Engine(later))
    stream = peer.request(posting(), end=False)
    later.answer(0, b"no thanks")
    peer.turn()
    answer = peer.answers[stream]
    assert answer.body == b"no thanks"
    assert answer.ended
    assert answer.reset == ErrorCodes.NO_ERROR


def test_a_body_longer_than_its_content_length_resets_the_stream() -> None:
    later = Later()
    peer = client(Engine(later))
    stream = peer.request()
    later.requests[0].setHeader(b"content-length", b"3")
    later.requests[0].write(b"hello")
    peer.turn()
    assert peer.answers[stream].reset == ErrorCodes.INTERNAL_ERROR


def test_a_body_shorter_than_its_content_length_resets_the_stream() -> None:
    later = Later()
    peer = client(Engine(later))
    stream = peer.request()
    later.requests[0].setHeader(b"content-length", b"10")
    later.requests[0].write(b"hello")
    later.requests[0].finish()
    peer.turn()
    assert peer.answers[stream].reset == ErrorCodes.INTERNAL_ERROR
    assert not peer.answers[stream].ended


def test_half_a_response_that_is_cut_off_is_not_taken_for_a_whole_one() -> None:
    later = Later()
    peer = client(Engine(later))
    stream = peer.request()
    other = peer.request()
    later.requests[0].write(b"hello")
    later.requests[0].abort()
    peer.turn()
    assert peer.answers[stream].reset == ErrorCodes.INTERNAL_ERROR
    assert not peer.answers[stream].ended
    assert later.ends[0] is not None
    later.answer(1, b"fine")
    peer.turn()
    assert peer.answers[other].body == b"fine"


def test_what_is_written_after_a_response_was_cut_off_is_forgotten() -> None:
    later = Later()
    peer = client(Engine(later))
    peer.request()
    request = later.requests[0]
    request.write(b"hello")
    request.abort()
    request.write(b"more")
    peer.turn()
    request.write(b"more")
    peer.turn()
    assert peer.answers[1].body == b"hello"
    assert peer.ask(fields(method=b"TRACE")) is not None
    assert len(later.requests) == 2


def test_a_resource_that_fails_gets_the_client_a_500_and_harms_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def answer(request: Any) -> bytes:
        if request.path == b"/bad":
            raise ValueError("secret")
        return b"fine"

    monkeypatch.setattr("kproxy.http.request._log", _Silent())
    peer = client(Engine(Answers(answer)))
    bad = peer.ask(fields(path=b"/bad"))
    assert bad.status == 500
    assert b"secret" not in bad.body
    assert peer.ask().body == b"fine"


class _Silent:
    def failure(self, *args: Any, **kwargs: Any) -> None:
        pass


def test_a_client_that_resets_a_stream_takes_its_request_back() -> None:
    later = Later()
    peer = client(Engine(later))
    ends: list[Any] = []
    producer = Producer()
    stream = peer.request()
    request = later.requests[0]
    request.on_finish(lambda request, failure: ends.append(failure))
    request.registerProducer(producer, True)
    peer.h2.reset_stream(stream, ErrorCodes.CANCEL)
    peer.turn()
    assert ends[0] is not None
    assert producer.calls == ["stop"]
    request.write(b"too late")


def test_a_client_that_resets_a_stream_within_its_body_loses_the_body() -> None:
    upload = Upload()
    peer = client(Engine(upload))
    stream = peer.request(posting(), b"half", end=False)
    peer.h2.reset_stream(stream, ErrorCodes.CANCEL)
    peer.turn()
    assert upload.bodies[0].lost is not None
    assert upload.ends[0] is not None


def test_a_client_whose_connection_breaks_takes_all_its_requests_back() -> None:
    later = Later()
    engine = Engine(later)
    peer = client(engine)
    ends: list[Any] = []
    for _ in range(3):
        peer.request()
    for request in later.requests:
        request.on_finish(lambda request, failure: ends.append(failure))
    peer.wire.reset()
    assert len(ends) == 3
    assert None not in ends
    assert not engine.site.connections


# Section 8.1.1: malformed messages.


@pytest.mark.parametrize(
    "headers",
    [
        # Section 8.2: fields.
        fields((b"X-Upper", b"1")),
        fields((b"", b"1")),
        fields((b"a b", b"1")),
        fields((b"a:b", b"1")),
        fields((b"a\0", b"1")),
        fields((b"\xe4", b"1")),
        fields((b"a(b)", b"1")),
        fields((b"a", b"1\r\nb: 2")),
        fields((b"a", b"1\n2")),
        fields((b"a", b"1\0")),
        fields((b"a", b"\x01")),
        fields((b"a", b"\x7f")),
        fields((b"a", b" 1")),
        fields((b"a", b"1\t")),
        fields((b"a", b" ")),
        # Section 8.2.2: fields about an HTTP/1 connection.
        fields((b"connection", b"keep-alive")),
        fields((b"proxy-connection", b"keep-alive")),
        fields((b"keep-alive", b"1")),
        fields((b"transfer-encoding", b"chunked")),
        fields((b"upgrade", b"websocket")),
        fields((b"te", b"gzip")),
        fields((b"te", b"trailers, gzip")),
        # Section 8.3: pseudo-header fields.
        fields(method=None),
        fields(scheme=None),
        fields(path=None),
        fields(authority=None),
        fields(method=b""),
        fields(method=b"GE T"),
        fields(path=b""),
        fields(path=b"index.html"),
        fields(path=b"http://example.com/"),
        fields(path=b"*"),
        fields(path=b"/a b"),
        fields(path=b"/a#b"),
        fields(path=b"/a\nb"),
        fields(path=b"/a HTTP/1.1\r\nHost: evil\r\n\r\n"),
        fields(authority=b""),
        fields(authority=b"user@example.com"),
        fields(authority=b"example.com/path"),
        fields(authority=b"exa mple.com"),
        fields(authority=b"example.com:port"),
        fields((b"host", b"other.example")),
        fields((b"host", b"example.com"), (b"host", b"example.com")),
        fields(protocol=b"websocket"),
        fields(status=b"200"),
        fields(unknown=b"x"),
        [*GET, (b":path", b"/again")],
        [*GET[:3], (b"a", b"1"), GET[3]],
        [*GET, (b"a", b"1"), (b":authority", b"example.com")],
        # Section 8.1.1: Content-Length.
        fields((b"content-length", b"5")),
        fields((b"content-length", b"0"), (b"content-length", b"0")),
    ],
    ids=repr,
)
def test_a_malformed_request_is_a_stream_error(headers: Pairs) -> None:
    echo = Echo()
    peer = raw(echo)
    peer.get(1, headers)
    assert peer.resets(1) == [PROTOCOL_ERROR]
    assert peer.goaway is None
    assert not echo.seen
    peer.get(3)
    assert peer.answered(3)


@pytest.mark.parametrize("value", [b"abc", b"-1", b"1, 1", b"+1", b"0x1", b"", b"1" * 30])
def test_a_content_length_that_is_not_a_number_is_an_error(value: bytes) -> None:
    echo = Echo()
    peer = raw(echo)
    peer.get(1, fields((b"content-length", value)))
    assert PROTOCOL_ERROR in (*peer.resets(), peer.goaway)
    assert not echo.seen


def test_a_body_longer_than_its_content_length_is_a_stream_error() -> None:
    upload = Upload()
    peer = raw(upload)
    peer.send(peer.headers(1, posting((b"content-length", b"3"))), peer.data(1, b"12"))
    peer.send(peer.data(1, b"34", "END_STREAM"))
    assert peer.resets()[0] == PROTOCOL_ERROR
    assert peer.goaway is None
    assert upload.bodies[0].data == b"12"
    assert upload.bodies[0].lost is not None
    assert upload.ends[0] is not None


def test_a_body_shorter_than_its_content_length_is_a_stream_error() -> None:
    upload = Upload()
    peer = raw(upload)
    peer.send(peer.headers(1, posting((b"content-length", b"3"))))
    peer.send(peer.data(1, b"12", "END_STREAM"))
    assert peer.resets()[0] == PROTOCOL_ERROR
    assert upload.bodies[0].ended is None
    assert upload.bodies[0].lost is not None


def test_trailers_before_the_content_length_has_come_are_a_stream_error() -> None:
    upload = Upload()
    peer = raw(upload)
    peer.send(peer.headers(1, posting((b"content-length", b"3"))))
    peer.send(peer.headers(1, [(b"a", b"b")], "END_STREAM"))
    assert peer.resets() == [PROTOCOL_ERROR]
    assert upload.bodies[0].lost is not None


def test_a_body_of_several_frames_may_have_its_content_length() -> None:
    upload = Upload()
    answer = client(Engine(upload)).ask(posting((b"content-length", b"40000")), b"x" * 40000)
    assert answer.status == 200
    assert upload.bodies[0].ended == []


# Section 8.2.3: cookies.


def test_the_crumbs_of_a_cookie_are_put_together() -> None:
    echo = Echo()
    client(Engine(echo)).ask(
        fields((b"cookie", b"a=1"), (b"x", b"y"), (b"cookie", b"b=2"), (b"cookie", b"c=3"))
    )
    assert echo.seen[0].requestHeaders.getRawHeaders(b"cookie") == [b"a=1; b=2; c=3"]
    assert echo.seen[0].getCookie(b"c") == b"3"


# Section 8.3.1: requests.


def test_te_trailers_is_allowed_and_goes_no_further() -> None:
    echo = Echo()
    client(Engine(echo)).ask(fields((b"te", b"trailers")))
    assert echo.seen[0].getHeader(b"te") is None


def test_a_host_alone_is_enough() -> None:
    echo = Echo()
    client(Engine(echo)).ask(fields((b"host", b"example.com"), authority=None))
    assert echo.seen[0].getHeader(b"host") == b"example.com"


def test_a_host_that_says_the_same_as_the_authority_is_allowed() -> None:
    echo = Echo()
    client(Engine(echo)).ask(fields((b"host", b"Example.com")))
    assert echo.seen[0].requestHeaders.getRawHeaders(b"host") == [b"example.com"]


def test_what_is_remembered_of_hosts_is_bounded() -> None:
    reader = StreamHeadReader()
    for index in range(3000):
        reader.request(fields(authority=b"%d.example" % index), True, True)
    reader.request(fields(authority=b"long" * 10_000), True, True)
    assert 0 < len(reader._hosts) < 2100
    assert max(map(len, reader._hosts)) < 300


def test_options_asks_about_the_server_as_a_whole_with_an_asterisk() -> None:
    echo = Echo()
    client(Engine(echo)).ask(fields(method=b"OPTIONS", path=b"*"))
    assert echo.seen[0].uri == b"*"


@pytest.mark.parametrize(
    ("secure", "scheme"), [(True, b"http"), (False, b"https"), (True, b"ftp"), (True, b"")]
)
def test_a_scheme_that_is_not_the_connections_is_misdirected(secure: bool, scheme: bytes) -> None:
    echo = Echo()
    answer = client(Engine(echo), secure=secure).ask(fields(scheme=scheme))
    assert answer.status == 421
    assert not echo.seen


@pytest.mark.parametrize("scheme", [b"https", b"HTTPS"])
def test_the_connections_scheme_is_served(scheme: bytes) -> None:
    assert client(Engine(Echo())).ask(fields(scheme=scheme)).status == 200


def test_cleartext_requests_are_not_secure() -> None:
    echo = Echo()
    client(Engine(echo), secure=False).ask(fields(scheme=b"http"))
    assert not echo.seen[0].isSecure()


# Section 8.5: CONNECT.


def test_connect_is_not_served() -> None:
    connect_ = [(b":method", b"CONNECT"), (b":authority", b"example.com:443")]
    assert client(Engine(Echo())).ask(connect_).status == 405


@pytest.mark.parametrize(
    "headers",
    [
        fields(method=b"CONNECT"),
        fields(method=b"CONNECT", scheme=None),
        [(b":method", b"CONNECT")],
        fields(method=b"CONNECT", protocol=b"websocket", path=None),
        fields(method=b"CONNECT", protocol=b"websocket", scheme=None),
    ],
    ids=repr,
)
def test_a_malformed_connect_is_a_stream_error(headers: Pairs) -> None:
    peer = raw()
    peer.get(1, headers)
    assert peer.resets() == [PROTOCOL_ERROR]


# Limits.


def test_a_path_that_is_too_long_is_refused_with_414() -> None:
    peer = client(Engine(Echo()))
    assert peer.ask(fields(path=b"/" + b"x" * 8192)).status == 414
    assert peer.ask(fields(path=b"/" + b"x" * 8191)).status == 200


def test_too_many_fields_are_refused_with_431() -> None:
    peer = client(Engine(Echo()))
    many = [(b"x-%d" % index, b"y") for index in range(100)]
    assert peer.ask(fields(*many)).status == 200
    assert peer.ask(fields(*many, (b"x", b"y"))).status == 431
    assert peer.ask().status == 200


def test_headers_that_are_too_large_are_refused_with_431() -> None:
    peer = client(Engine(Echo()))
    large = [(b"x-%d" % index, b"y" * 8000) for index in range(9)]
    assert peer.ask(fields(*large[:7])).status == 200
    assert peer.ask(fields(*large, (b"z", b"y" * 4000))).status == 431
    assert peer.ask().status == 200


def test_a_refusal_of_a_request_with_a_body_lets_the_client_stop() -> None:
    peer = client(Engine(Echo()))
    stream = peer.request(posting(path=b"/" + b"x" * 9000), end=False)
    assert peer.answers[stream].status == 414
    assert peer.answers[stream].ended
    assert peer.answers[stream].reset == ErrorCodes.NO_ERROR
