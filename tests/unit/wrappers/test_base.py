"""What every wrapper shares: any resource of Twisted's can stand inside of it."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from klein import Klein
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.web import static
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site
from twisted.web.util import Redirect, redirectTo
from zope.interface.verify import verifyObject

from kproxy.config.model import Buffering, Service, Target
from kproxy.http.site import Site as KproxysSite
from kproxy.interfaces import IBody, IBodyReceiver
from kproxy.plugins import find_wrappers
from kproxy.routing import Table
from kproxy.stored import FileBody
from kproxy.streaming import streaming
from kproxy.tree import assemble, outer_chain, service_chain
from kproxy.wrappers.base import BodyFilter, Tree, Wrapper, as_leaf
from kproxy.wrappers.gate import GateControl
from kproxy.wrappers.host_router import HostRouter
from kproxy.wrappers.request_buffer import Options as Buffered
from kproxy.wrappers.request_buffer import RequestBuffer
from tests.unit.wrappers.support import (
    Client,
    Echo,
    Held,
    Response,
    Says,
    Serve,
    Threads,
    chunked,
    echoed,
    get,
    post,
)

FORM = "Content-Type: application/x-www-form-urlencoded"
BUFFERED = Buffering()
STREAMED = Buffering(requests=False, responses=False, max_request_body=0)
LIMITED = Buffering(requests=False, responses=False, max_request_body=1 << 20)
SPILLED = Buffering(memory=0)


def whole_chain(leaf: Any, clock: Clock, buffering: Buffering) -> Any:
    """The leaf behind everything that comes with kproxy, as the data plane puts it together."""
    service = Service(
        "app-web",
        (Target("10.0.0.1", 80),),
        ("example.com",),
        ("/app",),
        canonical_host="example.com",
        buffering=buffering,
    )
    plugins = find_wrappers()
    chain = service_chain(service, GateControl(clock), Threads())
    inner = assemble(chain, leaf, plugins)
    router = HostRouter(Table([(service.hosts, service.path_prefixes, ("app-web", inner))]))
    return assemble(outer_chain(lambda line: None), router, plugins)


@pytest.fixture(
    params=[None, BUFFERED, STREAMED, LIMITED, SPILLED],
    ids=["one wrapper", "chain", "chain, streaming", "chain, limited", "chain, spilling"],
)
def chain(request: pytest.FixtureRequest, clock: Clock, serve: Serve) -> Any:
    """A function that puts a leaf inside of one wrapper, or of the whole chain, and serves it."""

    def behind(leaf: Any) -> Site | KproxysSite:
        if request.param is None:
            return serve(Wrapper(Under(b"app", leaf)))
        return serve(whole_chain(leaf, clock, request.param))

    return behind


class Under(Resource):
    """A resource that has another for a child, so that its address is that of the whole chain."""

    def __init__(self, name: bytes, child: Any) -> None:
        super().__init__()
        self.putChild(name, child)


# Trees of Twisted's.


def test_children_are_found(chain: Any) -> None:
    root = Resource()
    root.putChild(b"", Says(b"top"))
    root.putChild(b"a b", Says(b"child"))
    deeper = Resource()
    deeper.putChild(b"leaf", Says(b"grandchild"))
    root.putChild(b"deeper", deeper)
    site = chain(root)
    assert site.ask(get("/app/")).body == b"top"
    assert site.ask(get("/app/a%20b")).body == b"child"
    assert site.ask(get("/app/deeper/leaf?q=1")).body == b"grandchild"
    assert site.ask(get("/app/none")).code == 404


def test_a_child_may_be_made_for_its_request(chain: Any) -> None:
    class Names(Resource):
        def getChild(self, path: bytes, request: Any) -> Resource:
            return Says(b"you are " + path)

    assert chain(Names()).ask(get("/app/me")).body == b"you are me"


def test_arguments_of_the_query_are_there(chain: Any) -> None:
    seen = []

    class Args(Resource):
        isLeaf = True

        def render_GET(self, request: Any) -> bytes:
            seen.append(request.args)
            return b""

    chain(Args()).ask(get("/app?a=1&b=%20x&a=2&empty="))
    assert seen == [{b"a": [b"1", b"2"], b"b": [b" x"], b"empty": [b""]}]


class Form(Resource):
    """Remembers the arguments and the body of a POST."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.args: Any = None
        self.body = b""

    def render_POST(self, request: Any) -> bytes:
        self.args = dict(request.args)
        self.body = request.content.read()
        return b"thanks"


def test_arguments_of_a_posted_form_are_there_and_its_body_too(chain: Any) -> None:
    form = Form()
    site = chain(form)
    assert site.ask(post(b"a=1&b=%20x&a=2", "/app?c=3", FORM)).body == b"thanks"
    assert form.args == {b"a": [b"1", b"2"], b"b": [b" x"], b"c": [b"3"]}
    assert form.body == b"a=1&b=%20x&a=2"


def test_a_form_that_comes_in_pieces_is_read_whole(chain: Any) -> None:
    form = Form()
    client = chain(form).connect()
    request = post(b"a=1&b=2", "/app", FORM)
    for place in range(len(request) - 7, len(request)):
        client.send(request[:place] if place == len(request) - 7 else request[place - 1 : place])
    client.send(request[-1:])
    assert client.response().code == 200
    assert form.args == {b"a": [b"1"], b"b": [b"2"]}


def test_arguments_of_a_multipart_form_are_there(chain: Any) -> None:
    form = Form()
    body = (
        b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'
        b'--x\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\nfile\r\n--x--\r\n'
    )
    chain(form).ask(post(body, "/app", "Content-Type: multipart/form-data; boundary=x"))
    assert form.args == {b"a": [b"1"], b"f": [b"file"]}
    assert form.body == body


def test_a_multipart_form_that_is_none_is_a_400(chain: Any) -> None:
    client = chain(Form()).connect()
    client.send(post(b"nothing", "/app", "Content-Type: multipart/form-data"))
    assert client.response().code == 400
    assert client.closing


def test_a_body_of_another_type_is_no_form(chain: Any) -> None:
    form = Form()
    chain(form).ask(post(b"a=1", "/app", "Content-Type: text/plain"))
    assert form.args == {}
    assert form.body == b"a=1"


def test_a_chunked_body_is_read_whole(chain: Any) -> None:
    request = chunked(b"one", b"two").replace(b"POST / ", b"POST /app ")
    assert echoed(chain(Echo()).ask(request))["body"] == "onetwo"


def test_a_large_body_is_read_whole(chain: Any) -> None:
    body = bytes(range(1, 128)) * 3000
    assert echoed(chain(Echo()).ask(post(body, "/app")))["body"] == body.decode()


def test_a_resource_may_answer_later(chain: Any, clock: Clock) -> None:
    class Later(Resource):
        isLeaf = True

        def render_GET(self, request: Any) -> int:
            def answer(_: object) -> None:
                request.write(b"now")
                request.finish()

            waiting: Deferred[None] = Deferred()
            waiting.addCallback(answer)
            clock.callLater(5, waiting.callback, None)
            return NOT_DONE_YET

    client = chain(Later()).connect()
    client.send(get("/app"))
    assert client.received == b""
    clock.advance(5)
    assert client.response().body == b"now"


def test_headers_cookies_and_status_of_a_resource_are_the_clients(chain: Any) -> None:
    class Sets(Resource):
        isLeaf = True

        def render_GET(self, request: Any) -> bytes:
            request.setResponseCode(418, b"Short and stout")
            request.setHeader(b"x-mine", b"1")
            request.responseHeaders.addRawHeader(b"vary", b"a")
            request.responseHeaders.addRawHeader(b"vary", b"b")
            request.addCookie("a", "b", path="/", httpOnly=True)
            request.addCookie("c", "d")
            return request.getCookie(b"came") or b"none"  # type: ignore[no-any-return]

    response = chain(Sets()).ask(get("/app", "Cookie: came=here; other=1"))
    assert (response.code, response.reason) == (418, b"Short and stout")
    assert response.header(b"x-mine") == b"1"
    assert response.all(b"vary") == [b"a", b"b"]
    assert response.all(b"set-cookie") == [b"a=b; Path=/; HttpOnly", b"c=d"]
    assert response.body == b"here"


def test_a_session_is_kept(chain: Any) -> None:
    class Counts(Resource):
        isLeaf = True

        def render_GET(self, request: Any) -> bytes:
            session = request.getSession()
            session.count = getattr(session, "count", 0) + 1
            return b"%d" % session.count

    client = chain(Counts()).connect()
    client.send(get("/app"))
    cookie = (client.response().header(b"set-cookie") or b"").split(b";")[0].decode()
    client.send(get("/app", f"Cookie: {cookie}"))
    assert [response.body for response in client.responses()] == [b"1", b"2"]


def test_twisteds_redirects_work(chain: Any) -> None:
    class Goes(Resource):
        isLeaf = True

        def render_GET(self, request: Any) -> bytes:
            return redirectTo(b"/elsewhere", request)

    response = chain(Goes()).ask(get("/app"))
    assert (response.code, response.header(b"location")) == (302, b"/elsewhere")
    assert chain(Redirect(b"/there")).ask(get("/app")).header(b"location") == b"/there"


@pytest.mark.parametrize("method", ["DELETE", "PUT", "PATCH"])
def test_a_method_that_a_resource_does_not_know_is_a_405_with_allow(
    chain: Any, method: str
) -> None:
    response = chain(Form()).ask(get("/app", "Content-Length: 0", method=method))
    assert response.code == 405
    allowed = (response.header(b"allow") or b"").split(b", ")
    assert sorted(allowed) == [b"HEAD", b"POST"]


def test_a_resource_that_raises_an_error_is_a_500_that_does_not_tell_it(serve: Serve) -> None:
    class Broken(Resource):
        isLeaf = True

        def render(self, request: Any) -> bytes:
            raise ZeroDivisionError("a secret")

    response = serve(Wrapper(Broken())).ask()
    assert response.code == 500
    assert b"secret" not in response.body


def test_a_resource_that_raises_an_error_after_its_body_was_collected_is_a_500(
    chain: Any,
) -> None:
    class Broken(Resource):
        isLeaf = True

        def render(self, request: Any) -> bytes:
            raise ZeroDivisionError

    assert chain(Broken()).ask(post(b"body", "/app")).code == 500


# HEAD.


def head(site: Any, target: str = "/app") -> Response:
    client: Client = site.connect()
    client.send(get(target, method="HEAD"))
    assert client.received.endswith(b"\r\n\r\n"), "a HEAD request got a body"
    return client.response()


def test_a_head_request_gets_the_length_and_not_the_body(chain: Any) -> None:
    assert head(chain(Says(b"seven b"))).header(b"content-length") == b"7"


def test_a_head_request_gets_no_body_that_is_written_in_pieces(chain: Any) -> None:
    assert head(chain(Says(b"in", b"pieces"))).code == 200


class OnlyGET:
    """A resource that is no subclass of Twisted's, which would know HEAD."""

    isLeaf = True

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces

    def render(self, request: Any) -> Any:
        from twisted.web.error import UnsupportedMethod

        if request.method != b"GET":
            raise UnsupportedMethod([b"GET"])
        if len(self.pieces) == 1:
            return self.pieces[0]
        for piece in self.pieces:
            request.write(piece)
        request.finish()
        return NOT_DONE_YET


def test_a_resource_that_knows_get_only_answers_head(chain: Any) -> None:
    response = head(chain(OnlyGET(b"seven b")))
    assert response.code == 200
    assert response.header(b"content-length") == b"7"


def test_a_resource_that_knows_get_only_and_writes_at_once_answers_head(serve: Serve) -> None:
    assert head(serve(Wrapper(OnlyGET(b"in", b"pieces")))).code == 200


# Files.


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "page.html").write_bytes(b"<p>hello</p>")
    (tmp_path / "large.bin").write_bytes(bytes(range(256)) * 2048)
    return tmp_path


def test_a_file_is_served(chain: Any, folder: Path) -> None:
    response = chain(static.File(str(folder))).ask(get("/app/page.html"))
    assert response.body == b"<p>hello</p>"
    assert response.header(b"content-type") == b"text/html"
    assert response.header(b"content-length") == b"12"
    assert response.header(b"accept-ranges") == b"bytes"


def test_a_large_file_is_served(chain: Any, folder: Path) -> None:
    response = chain(static.File(str(folder))).ask(get("/app/large.bin"))
    assert response.body == bytes(range(256)) * 2048


def test_a_part_of_a_file_is_served(chain: Any, folder: Path) -> None:
    site = chain(static.File(str(folder)))
    response = site.ask(get("/app/large.bin", "Range: bytes=256-400000"))
    assert response.code == 206
    assert response.header(b"content-range") == b"bytes 256-400000/524288"
    assert response.body == (bytes(range(256)) * 2048)[256:400001]


def test_a_file_that_the_client_has_is_not_sent_again(chain: Any, folder: Path) -> None:
    site = chain(static.File(str(folder)))
    changed = (site.ask(get("/app/page.html")).header(b"last-modified") or b"").decode()
    assert changed.endswith(" GMT")
    again = site.ask(get("/app/page.html", f"If-Modified-Since: {changed}"))
    assert (again.code, again.body) == (304, b"")


def test_a_head_request_for_a_file_gets_its_length(chain: Any, folder: Path) -> None:
    response = head(chain(static.File(str(folder))), "/app/large.bin")
    assert response.header(b"content-length") == b"524288"


def test_a_file_that_is_not_there_is_a_404(chain: Any, folder: Path) -> None:
    assert chain(static.File(str(folder))).ask(get("/app/none")).code == 404


def test_a_resources_etag_is_sent_and_compared(chain: Any) -> None:
    class Tagged(Resource):
        isLeaf = True

        def render_GET(self, request: Any) -> bytes:
            return b"" if request.setETag(b'"v1"') else b"body"

    site = chain(Tagged())
    fresh = site.ask(get("/app"))
    assert (fresh.body, fresh.header(b"etag")) == (b"body", b'"v1"')
    again = site.ask(get("/app", 'If-None-Match: "v1"'))
    assert (again.code, again.body) == (304, b"")


# Klein.


@pytest.fixture
def klein(clock: Clock) -> Any:
    app = Klein()

    @app.route("/")
    def top(request: Any) -> bytes:
        return b"top"

    @app.route("/users/<int:number>", methods=["GET"])
    def user(request: Any, number: int) -> bytes:
        return b"user %d, %b" % (number, request.args[b"q"][0])

    @app.route("/form", methods=["POST"])
    def form(request: Any) -> bytes:
        return b"%b and %b" % (request.args[b"a"][0], request.content.read())

    @app.route("/later")
    def later(request: Any) -> Deferred[bytes]:
        waiting: Deferred[bytes] = Deferred()
        clock.callLater(5, waiting.callback, b"late")
        return waiting

    @app.route("/url")
    def url(request: Any) -> bytes:
        return request.URLPath().child(b"x").path  # type: ignore[no-any-return]

    return app.resource()


def test_a_klein_application_routes(chain: Any, klein: Any) -> None:
    site = chain(klein)
    assert site.ask(get("/app/")).body == b"top"
    assert site.ask(get("/app/users/12?q=yes")).body == b"user 12, yes"
    assert site.ask(get("/app/none")).code == 404
    assert site.ask(post(b"", "/app/users/12")).code == 405


def test_a_klein_application_reads_forms(chain: Any, klein: Any) -> None:
    assert chain(klein).ask(post(b"a=1", "/app/form", FORM)).body == b"1 and a=1"


def test_a_klein_application_answers_later(chain: Any, klein: Any, clock: Clock) -> None:
    client = chain(klein).connect()
    client.send(get("/app/later"))
    assert client.received == b""
    clock.advance(5)
    assert client.response().body == b"late"


# What a leaf is told.


def test_a_leafs_push_producer_is_slowed_by_a_slow_client(serve: Serve) -> None:
    from tests.unit.wrappers.support import Producer

    leaf, producer = Held(), Producer()
    client = serve(Wrapper(leaf)).connect()
    client.send(get())
    leaf.request.registerProducer(producer, True)
    client.hurry(False)
    assert producer.told == ["pause"]
    client.hurry(True)
    assert producer.told == ["pause", "resume"]


def test_a_leafs_producer_is_stopped_once_when_the_client_leaves(serve: Serve) -> None:
    from tests.unit.wrappers.support import Producer

    leaf, producer = Held(), Producer()
    client = serve(Wrapper(leaf)).connect()
    client.send(get())
    leaf.request.registerProducer(producer, True)
    client.leave()
    if not serve(Wrapper(leaf)).native:
        # Over TCP it is the transport that stops its producer, the stock channel.
        client.transport.producer.stopProducing()
    assert producer.told == ["stop"]


def test_a_request_goes_on_later_only_if_somebody_waits_for_it(serve: Serve) -> None:
    class Waits(Wrapper):
        def render(self, request: Any) -> int:
            self.request = request
            return NOT_DONE_YET

    inside = Echo()
    waits = Waits(inside)
    site = serve(waits)
    patient, impatient, answered = site.connect(), site.connect(), site.connect()
    patient.send(get("/1"))
    waits.render_later(waits.request)
    assert echoed(patient.response())["path"] == "/1"
    impatient.send(get("/2"))
    impatient.leave()
    waits.render_later(waits.request)
    answered.send(get("/3"))
    waits.request.finish()
    waits.render_later(waits.request)
    assert [request.path for request in inside.requests] == [b"/1"]


def test_an_error_after_the_answer_leaves_the_answer_alone(serve: Serve) -> None:
    class Answers(Resource):
        isLeaf = streams = True

        def render(self, request: Any) -> bytes:
            request.setHeader(b"content-length", b"4")
            request.write(b"fine")
            request.finish()
            raise ZeroDivisionError

    class Waits(Wrapper):
        def render(self, request: Any) -> int:
            self.request = request
            return NOT_DONE_YET

    waits = Waits(Answers())
    client = serve(waits).connect()
    client.send(get())
    waits.render_later(waits.request)
    assert client.response().body == b"fine"
    assert not client.cut


# A filter for bodies.


class Shouts(BodyFilter):
    """Changes a body on its way."""

    def body_data(self, data: bytes) -> None:
        super().body_data(data.upper())


class Louder(BodyFilter):
    """Makes a body longer on its way."""

    def __init__(self, body: Any) -> None:
        super().__init__(body)
        self.length = None

    def body_data(self, data: bytes) -> None:
        super().body_data(data.upper())

    def body_end(self, trailers: list[tuple[bytes, bytes]]) -> None:
        super().body_data(b"!")
        super().body_end(trailers)


class Filters(Wrapper):
    def __init__(self, wrapped: Any, kind: Any) -> None:
        super().__init__(wrapped)
        self.kind = kind

    def render(self, request: Any) -> Any:
        request = streaming(request)
        request.body = self.kind(request.body)
        return super().render(request)


def test_a_body_filter_keeps_its_contracts() -> None:
    body = BodyFilter(FileBody(BytesIO(b"x"), 1))
    assert verifyObject(IBody, body)
    assert verifyObject(IBodyReceiver, body)


@pytest.mark.parametrize(("kind", "arrives"), [(Shouts, "BODY"), (Louder, "BODY!")])
@pytest.mark.parametrize("framed", [post, chunked])
@pytest.mark.parametrize("buffered", [False, True])
def test_a_body_that_is_changed_on_its_way_arrives_changed(
    serve: Serve, kind: Any, arrives: str, framed: Any, buffered: bool
) -> None:
    leaf: Any = Echo()
    if buffered:
        leaf = RequestBuffer(leaf, Buffered(in_thread=Threads()))
    assert echoed(serve(Filters(leaf, kind)).ask(framed(b"body")))["body"] == arrives


def test_a_body_filter_passes_on_what_stops_a_body() -> None:
    body = FileBody(BytesIO(b"x" * 600_000), 600_000)
    between = BodyFilter(body)
    pieces: list[bytes] = []

    class Once:
        def body_data(self, data: bytes) -> None:
            pieces.append(data)
            between.pause()

    between.start(Once())  # type: ignore[arg-type]
    assert len(pieces) == 1
    between.resume()
    assert len(pieces) == 2
    between.stop()
    between.resume()
    between.body_data(b"late")
    between.body_end([])
    between.body_lost(Exception())
    assert len(pieces) == 2


def test_a_wrapper_is_always_given_a_leaf() -> None:
    stock = Says(b"")
    assert isinstance(as_leaf(stock), Tree)
    assert Wrapper(stock).wrapped.root is stock
    wrapper = Wrapper(stock)
    assert Wrapper(wrapper).wrapped is wrapper
