"""The pages of the answers that the proxy gives itself (behaviour.md section 3)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from kproxy.errors import answer_error
from kproxy.streaming import streaming
from kproxy.wrappers.error_pages import ErrorPages, Options, at
from tests.unit.wrappers.support import Says, Serve, get


class Fails(Resource):
    """What finds that it can't answer."""

    isLeaf = True
    streams = True

    def __init__(self, code: int, message: str = "") -> None:
        super().__init__()
        self.code = code
        self.message = message

    def render(self, request: Any) -> int:
        answer_error(streaming(request), self.code, self.message)
        return NOT_DONE_YET


@pytest.mark.parametrize("code", [400, 404, 408, 413, 414, 431, 500, 502, 503, 504])
def test_the_built_in_page_is_html_that_names_the_status(serve: Serve, code: int) -> None:
    response = serve(ErrorPages(Fails(code))).ask()
    assert response.code == code
    assert response.header(b"content-type") == b"text/html; charset=utf-8"
    assert response.body.startswith(b"<!DOCTYPE html>")
    assert b"<h1>%d %b</h1>" % (code, response.reason) in response.body


def test_without_error_pages_an_answer_is_plain_text(serve: Serve) -> None:
    response = serve(Fails(502)).ask()
    assert response.header(b"content-type") == b"text/plain; charset=utf-8"
    assert response.body == b"502 Bad Gateway\n"


def test_an_answer_has_a_length_and_a_date(serve: Serve) -> None:
    response = serve(ErrorPages(Fails(502))).ask()
    assert response.header(b"content-length") == b"%d" % len(response.body)
    assert (response.header(b"date") or b"").endswith(b" GMT")


def test_a_head_request_gets_the_length_of_the_page_and_no_page(serve: Serve) -> None:
    site = serve(ErrorPages(Fails(503)))
    page = site.ask().body
    client = site.connect()
    client.send(get(method="HEAD"))
    assert client.response().header(b"content-length") == b"%d" % len(page)
    assert client.received.endswith(b"\r\n\r\n")


def test_a_folder_of_pages_replaces_the_built_in_ones_it_has(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "502.html").write_text("<h1>Gleich zurück</h1>", "utf-8")
    options = at(str(tmp_path))
    mine = serve(ErrorPages(Fails(502), options)).ask()
    assert mine.body.decode() == "<h1>Gleich zurück</h1>"
    assert mine.header(b"content-type") == b"text/html; charset=utf-8"
    assert b"504 Gateway Time-out" in serve(ErrorPages(Fails(504), options)).ask().body


def test_other_files_of_the_folder_are_not_read(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "logo.png").write_bytes(b"\xff\x00")
    (tmp_path / "5xx.html").write_bytes(b"\xff\x00")
    assert serve(ErrorPages(Fails(502), at(str(tmp_path)))).ask().code == 502


@pytest.mark.parametrize("place", ["{{ .Message }}", "{{.Message}}", "{{  .Message  }}"])
def test_the_stop_message_is_put_into_the_page_html_escaped(
    serve: Serve, tmp_path: Path, place: str
) -> None:
    (tmp_path / "503.html").write_text(f"<p>{place}</p><b>{place}</b>")
    pages = ErrorPages(Fails(503, 'back <soon> & "well" \\1 {{ .Message }}'), at(str(tmp_path)))
    escaped = "back &lt;soon&gt; &amp; &quot;well&quot; \\1 {{ .Message }}"
    assert serve(pages).ask().body.decode() == f"<p>{escaped}</p><b>{escaped}</b>"


def test_without_a_message_its_place_in_the_page_is_empty(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "503.html").write_text("<p>{{ .Message }}</p>")
    assert serve(ErrorPages(Fails(503), at(str(tmp_path)))).ask().body == b"<p></p>"


def test_the_built_in_page_shows_the_stop_message_html_escaped(serve: Serve) -> None:
    body = serve(ErrorPages(Fails(503, "<script>é</script>"))).ask().body.decode()
    assert "<p>&lt;script&gt;é&lt;/script&gt;</p>" in body


def test_the_innermost_pages_count(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "502.html").write_text("the service's own")
    inner = ErrorPages(Fails(502), at(str(tmp_path)))
    assert serve(ErrorPages(inner)).ask().body == b"the service's own"


def test_an_applications_own_error_is_passed_on_as_it_is(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "404.html").write_text("the proxy's")
    pages = ErrorPages(Says(b"the application's", code=404), at(str(tmp_path)))
    assert serve(pages).ask().body == b"the application's"


def test_nothing_of_what_was_to_be_the_response_is_left(serve: Serve) -> None:
    class Begins(Fails):
        def render(self, request: Any) -> int:
            request.setHeader(b"content-length", b"5")
            request.setHeader(b"x-half", b"done")
            request.addCookie("half", "done")
            return super().render(request)

    response = serve(ErrorPages(Begins(502))).ask()
    assert b"502 Bad Gateway" in response.body
    assert response.header(b"x-half") is None
    assert response.header(b"set-cookie") is None


def test_a_response_that_has_begun_is_cut_instead(serve: Serve) -> None:
    class Breaks(Fails):
        def render(self, request: Any) -> int:
            request.write(b"half")
            return super().render(request)

    client = serve(ErrorPages(Breaks(502))).connect()
    client.send(get())
    response = client.response()
    assert client.cut
    assert response.code == 200
    assert not response.complete
    assert response.body == b"half"


def test_the_options_of_deploy_yml_want_a_folder(tmp_path: Path) -> None:
    assert at(str(tmp_path)) == Options()
    assert at() == Options()
    with pytest.raises(ValueError, match="path should be a folder that exists, is '/no/such'"):
        at("/no/such")
