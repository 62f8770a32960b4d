"""Resources that know nothing of kproxy work in its engine as they do in Twisted's Site."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from klein import Klein
from twisted.internet import _producer_helpers
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, Cooperator
from twisted.web.pages import forbidden
from twisted.web.resource import EncodingResourceWrapper, Resource
from twisted.web.server import NOT_DONE_YET, GzipEncoderFactory
from twisted.web.static import Data, File
from twisted.web.util import Redirect

from tests.unit.http.memory import Engine, get, post, read_message, read_messages

FORM = b"Content-Type: application/x-www-form-urlencoded"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that also gives their turns to pull producers, in place of the global cooperator."""
    clock = Clock()
    cooperator = Cooperator(scheduler=lambda turn: clock.callLater(0, turn))
    monkeypatch.setattr(_producer_helpers, "cooperate", cooperator.cooperate)
    return clock


@pytest.fixture
def files(tmp_path: Path, clock: Clock) -> Engine:
    (tmp_path / "a.txt").write_bytes(b"hello")
    (tmp_path / "large.bin").write_bytes(bytes(range(256)) * 4000)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "index.html").write_bytes(b"<p>index")
    return Engine(File(str(tmp_path)), clock=clock)


def test_files_are_served_with_type_and_length(files: Engine) -> None:
    message = files.ask(get(b"/a.txt"))
    assert (message.status, message.body) == (200, b"hello")
    assert message.get(b"content-type") == [b"text/plain"]
    assert message.get(b"content-length") == [b"5"]
    assert message.get(b"last-modified")


def test_large_files_are_served_whole(files: Engine) -> None:
    client = files.client()
    client.send(get(b"/large.bin"))
    assert read_messages(client.received)[0].body == bytes(range(256)) * 4000


def test_a_slow_client_slows_the_reading_of_a_file(files: Engine) -> None:
    client = files.client()
    client.stop_reading()
    client.send(get(b"/large.bin"))
    assert 0 < len(client.dataBuffer) < 200_000
    client.read_on()
    assert read_messages(client.received)[0].body == bytes(range(256)) * 4000


def test_ranges_and_conditions_work(files: Engine) -> None:
    message = files.ask(get(b"/a.txt", b"Range: bytes=1-3"))
    assert (message.status, message.body) == (206, b"ell")
    (modified,) = files.ask(get(b"/a.txt")).get(b"last-modified")
    message = files.ask(get(b"/a.txt", b"If-Modified-Since: " + modified))
    assert (message.status, message.body) == (304, b"")


def test_head_of_a_file_tells_its_length(files: Engine) -> None:
    client = files.client()
    client.send(get(b"/a.txt", method=b"HEAD") + get(b"/a.txt"))
    message, rest = read_message(client.received, bodiless=True)
    assert message.get(b"content-length") == [b"5"]
    assert read_message(rest)[0].body == b"hello"


def test_missing_files_folders_and_methods(files: Engine) -> None:
    assert files.ask(get(b"/missing")).status == 404
    assert files.ask(get(b"/folder/")).body == b"<p>index"
    assert files.ask(get(b"/folder")).status in (301, 302)
    message = files.ask(get(b"/a.txt", method=b"PUT"))
    assert message.status == 405
    assert message.get(b"allow")


class Form(Resource):
    """Shows what Twisted makes of a request."""

    def render_GET(self, request: Any) -> bytes:
        return repr((request.prepath, request.postpath, sorted(request.args.items()))).encode()

    def render_POST(self, request: Any) -> bytes:
        content = request.content.read()
        return repr((content, sorted(request.args.items()))).encode()


def tree() -> Engine:
    root = Resource()
    root.putChild(b"", Data(b"root", "text/plain"))
    root.putChild(b"form", Form())
    leaf = Form()
    leaf.isLeaf = True
    folder = Resource()
    folder.putChild(b"leaf", leaf)
    root.putChild(b"folder", folder)
    root.putChild(b"away", Redirect(b"/there"))
    root.putChild(b"no", forbidden())
    return Engine(root)


def test_children_are_found() -> None:
    engine = tree()
    assert engine.ask(get(b"/")).body == b"root"
    assert engine.ask(get(b"/nothing")).status == 404
    assert engine.ask(get(b"/no")).status == 403
    body = engine.ask(get(b"/folder/leaf/a%2fb/c?x=1&x=2&y=%20")).body
    assert body == b"([b'folder', b'leaf'], [b'a/b', b'c'], [(b'x', [b'1', b'2']), (b'y', [b' '])])"


def test_a_post_is_read_from_content_and_args() -> None:
    form = urlencode({"a": "1", "b": "ä"}).encode()
    message = tree().ask(post(form, FORM, path=b"/form?c=3"))
    expected = [(b"a", [b"1"]), (b"b", ["ä".encode()]), (b"c", [b"3"])]
    assert message.body == repr((form, expected)).encode()


def test_a_post_that_arrives_bytewise_is_read_whole() -> None:
    client = tree().client()
    client.send_bytewise(post(b"a=1&b=2", FORM, path=b"/form") + get(b"/"))
    first, second = read_messages(client.received)
    assert first.body == repr((b"a=1&b=2", [(b"a", [b"1"]), (b"b", [b"2"])])).encode()
    assert second.body == b"root"


def test_a_multipart_form_is_read() -> None:
    parts = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--x--\r\n'
    kind = b"Content-Type: multipart/form-data; boundary=x"
    assert b"[(b'a', [b'1'])]" in tree().ask(post(parts, kind, path=b"/form")).body


def test_redirects_tell_where_to() -> None:
    message = tree().ask(get(b"/away"))
    assert message.status == 302
    assert message.get(b"location") == [b"/there"]


def test_a_result_may_come_later() -> None:
    class Slow(Resource):
        isLeaf = True

        def __init__(self) -> None:
            super().__init__()
            self.waiting: list[Deferred[bytes]] = []

        def render_GET(self, request: Any) -> int:
            result: Deferred[bytes] = Deferred()
            result.addCallback(request.write).addCallback(lambda _: request.finish())
            self.waiting.append(result)
            return NOT_DONE_YET

    resource = Slow()
    client = Engine(resource).client()
    client.send(get())
    assert client.received == b""
    resource.waiting[0].callback(b"later")
    (message,) = read_messages(client.received)
    assert message.body == b"later"
    assert message.get(b"content-type") == [b"text/html"]


def test_a_pull_producer_is_asked_at_the_clients_pace(clock: Clock) -> None:
    class Pull(Resource):
        isLeaf = True

        def render_GET(self, request: Any) -> int:
            self.left, self.request = 5, request
            request.registerProducer(self, False)
            return NOT_DONE_YET

        def resumeProducing(self) -> None:
            self.left -= 1
            self.request.write(b"x" * 40_000)
            if not self.left:
                self.request.unregisterProducer()
                self.request.finish()

        def stopProducing(self) -> None:
            self.left = -1

    resource = Pull()
    client = Engine(resource, clock=clock).client()
    client.stop_reading()
    client.send(get())
    assert resource.left == 3
    client.read_on()
    assert read_messages(client.received)[0].body == b"x" * 200_000


def test_cookies_come_and_go() -> None:
    class Cookies(Resource):
        isLeaf = True

        def render_GET(self, request: Any) -> bytes:
            request.addCookie(b"b", b"2", path=b"/", httpOnly=True)
            return b"%r" % request.getCookie(b"a")

    message = Engine(Cookies()).ask(get(b"/", b"Cookie: a=1; c=3"))
    assert message.body == b"b'1'"
    assert message.get(b"set-cookie") == [b"b=2; Path=/; HttpOnly"]


def test_sessions_last_from_request_to_request() -> None:
    class Counter(Resource):
        isLeaf = True

        def render_GET(self, request: Any) -> bytes:
            session = request.getSession()
            session.count = getattr(session, "count", 0) + 1
            return b"%d" % session.count

    engine = Engine(Counter())
    first = engine.ask(get())
    (cookie,) = first.get(b"set-cookie")
    cookie = cookie.split(b";")[0]
    second = engine.ask(get(b"/", b"Cookie: " + cookie))
    assert (first.body, second.body) == (b"1", b"2")
    for session in list(engine.site.sessions.values()):
        session.expire()


def test_encoders_work() -> None:
    resource = Data(b"hello" * 1000, "text/plain")
    resource.isLeaf = True
    engine = Engine(EncodingResourceWrapper(resource, [GzipEncoderFactory()]))
    message = engine.ask(get(b"/", b"Accept-Encoding: gzip"))
    assert message.get(b"content-encoding") == [b"gzip"]
    assert gzip.decompress(message.body) == b"hello" * 1000


def test_a_klein_application_works() -> None:
    app = Klein()

    @app.route("/")
    def index(request: Any) -> bytes:
        return b"index"

    @app.route("/hello/<name>", methods=["GET"])
    def hello(request: Any, name: str) -> str:
        return f"hello {name}"

    @app.route("/post", methods=["POST"])
    async def take(request: Any) -> bytes:
        request.setResponseCode(201)
        return bytes(request.content.read()).upper()

    engine = Engine(app.resource())
    assert engine.ask(get()).body == b"index"
    assert engine.ask(get(b"/hello/you%20two")).body == b"hello you two"
    message = engine.ask(post(b"abc", path=b"/post"))
    assert (message.status, message.body) == (201, b"ABC")
    assert engine.ask(get(b"/missing")).status == 404
    assert engine.ask(get(b"/post")).status == 405
