"""Needs no port: the transport is in memory, and the Site is a stock one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from kproxy_banner import Banner, Options, after_body_tag
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from kproxy.config import ConfigurationError, load
from kproxy.plugins import find_wrappers

BANNER = "<p>Maintenance tonight</p>"
PAGE = "<!DOCTYPE html><html><head><title>T</title></head><body class='a'><h1>Hi</h1></body></html>"
OPTIONS = Options(BANNER)
WITH_BANNER = PAGE.replace("<h1>", BANNER + "<h1>")


class Application(Resource):
    """Answers in as many writes as there are pieces; keeps its requests."""

    isLeaf = True

    def __init__(self, *pieces: str, code: int = 200, **headers: str) -> None:
        super().__init__()
        self.pieces = [piece.encode() for piece in pieces]
        self.code = code
        self.headers = {"content_type": "text/html; charset=utf-8", **headers}
        self.request: Any = None

    def render(self, request: Any) -> Any:
        self.request = request
        request.setResponseCode(self.code)
        for name, value in self.headers.items():
            request.setHeader(name.replace("_", "-"), value)
        if len(self.pieces) == 1:
            return self.pieces[0]
        for piece in self.pieces:
            request.write(piece)
        return NOT_DONE_YET

    def finish(self) -> None:
        if len(self.pieces) != 1:
            self.request.finish()


def ask(
    application: Application,
    options: Options = OPTIONS,
    method: str = "GET",
    *,
    finish: bool = True,
) -> tuple[str, str]:
    """Ask a stock Site: the head of the response in lower case, and its body as it was sent."""
    transport = StringTransport(peerAddress=IPv4Address("TCP", "192.0.2.7", 4711))
    site = Site(Banner(application, options), reactor=Clock())
    channel = site.buildProtocol(transport.getPeer())
    channel.makeConnection(transport)
    # HTTP/1.0, so that a body without a length is not in chunks.
    channel.dataReceived(f"{method} / HTTP/1.0\r\nHost: a\r\n\r\n".encode())
    if finish:
        application.finish()
    head, _, body = transport.value().partition(b"\r\n\r\n")
    return head.decode().lower(), body.decode()


def length(head: str) -> int | None:
    found = re.search(r"content-length: (\d+)", head)
    return int(found[1]) if found else None


def test_the_banner_is_right_behind_the_body_tag() -> None:
    assert ask(Application(PAGE))[1] == WITH_BANNER


@pytest.mark.parametrize("place", range(1, len(PAGE)))
def test_a_page_may_be_split_anywhere(place: int) -> None:
    assert ask(Application(PAGE[:place], PAGE[place:]))[1] == WITH_BANNER


def test_a_page_may_come_byte_by_byte() -> None:
    assert ask(Application(*PAGE))[1] == WITH_BANNER


def test_a_page_with_a_content_length_keeps_a_right_one() -> None:
    head, body = ask(Application(PAGE))
    assert length(head) == len(body) == len(WITH_BANNER)
    announced = Application(PAGE[:70], PAGE[70:], content_length=str(len(PAGE)))
    head, body = ask(announced)
    assert length(head) == len(body) == len(WITH_BANNER)


def test_a_page_without_a_content_length_gets_none() -> None:
    head, body = ask(Application(PAGE[:70], PAGE[70:]))
    assert length(head) is None
    assert body == WITH_BANNER


def test_a_head_request_gets_the_length_that_a_get_request_gets() -> None:
    head, body = ask(Application(PAGE), method="HEAD")
    assert length(head) == len(WITH_BANNER)
    assert body == ""


def test_what_follows_the_banner_is_passed_on_at_once() -> None:
    application = Application("<html><body>", "first", "second")
    assert ask(application, finish=False)[1] == f"<html><body>{BANNER}firstsecond"


def test_what_comes_before_the_body_tag_waits_for_it() -> None:
    application = Application("<html><head>", "<title>")
    assert ask(application, finish=False)[1] == ""
    application = Application("<html><head>", "<title>")
    assert ask(application)[1] == f"{BANNER}<html><head><title>"


@pytest.mark.parametrize(
    ("page", "before"),
    [
        ("<p>hello</p>", ""),
        ("hello", ""),
        ("<!doctype html>\n<p>hello</p>", "<!doctype html>"),
        ("\n <!DOCTYPE html PUBLIC 'x'><p>hello</p>", "\n <!DOCTYPE html PUBLIC 'x'>"),
        ("\ufeff<p>hello</p>", "\ufeff"),
        ("\ufeff<!DOCTYPE html><p>hello</p>", "\ufeff<!DOCTYPE html>"),
        ("<bodyguard>hello</bodyguard>", ""),
        ("<html>an unfinished <body", ""),
        ("<html>an unfinished <!-- <body> ", ""),
    ],
)
def test_a_page_without_a_body_tag_gets_the_banner_at_its_beginning(page: str, before: str) -> None:
    expected = before + BANNER + page[len(before) :]
    assert ask(Application(page))[1] == expected
    assert ask(Application(*page, ""))[1] == expected


def test_the_body_tag_is_looked_for_in_a_bounded_prefix_only() -> None:
    page = "<html>" + "x" * 100 + "<body>late"
    assert ask(Application(page), Options(BANNER, search=50))[1] == BANNER + page
    application = Application("<html>", "x" * 100, "more")
    kept = ask(application, Options(BANNER, search=50), finish=False)[1]
    assert kept == f"{BANNER}<html>{'x' * 100}more"
    assert f"<body>{BANNER}late" in ask(Application(page), Options(BANNER, search=112))[1]


@pytest.mark.parametrize(
    "tag",
    [
        "<body>",
        "<BODY>",
        "<body\n>",
        "<body/>",
        "<body class=a>",
        "<body class='a>b' id=\"c>d\">",
        "<body data-x=it's onload = \"a('>')\">",
        "<body a==>",
    ],
)
def test_every_kind_of_body_tag_is_known(tag: str) -> None:
    assert ask(Application(f"<html>{tag}<p>'\">"))[1] == f"<html>{tag}{BANNER}<p>'\">"
    assert ask(Application(*f"<html>{tag}<p>'\">"))[1] == f"<html>{tag}{BANNER}<p>'\">"


@pytest.mark.parametrize(
    "decoy",
    [
        "<!-- <body> -->",
        "<!--[if IE]><body class=ie><![endif]-->",
        "<script>x = '<body>'</script>",
        "<SCRIPT src=x>\n'<body>' // </scripts> </script >",
        "<style>/* <body> */</style>",
    ],
)
def test_a_body_tag_that_is_none_is_passed_over(decoy: str) -> None:
    page = f"<html><head>{decoy}</head><body>hi"
    expected = page.replace("<body>hi", f"<body>{BANNER}hi")
    assert ask(Application(page))[1] == expected
    assert ask(Application(*page))[1] == expected


@pytest.mark.parametrize(
    "headers",
    [
        {"content_type": "application/json"},
        {"content_type": "text/html-sandboxed"},
        {"content_type": "text/plain"},
        {"content_type": "text/html; charset=UTF-16"},
        {"content_encoding": "gzip"},
        {"content_encoding": "br"},
        {"cache_control": "private, no-transform"},
    ],
)
def test_what_is_not_plain_html_is_left_untouched(headers: dict[str, str]) -> None:
    application = Application(PAGE, etag='"1"', **headers)
    head, body = ask(application)
    assert body == PAGE
    assert length(head) == len(PAGE)
    assert 'etag: "1"' in head


@pytest.mark.parametrize("kind", ["text/html", "Text/HTML;charset=iso-8859-1"])
def test_html_is_known_by_its_type_however_it_is_written(kind: str) -> None:
    assert ask(Application(PAGE, content_type=kind))[1] == WITH_BANNER


def test_an_uncompressed_page_may_say_so() -> None:
    assert ask(Application(PAGE, content_encoding="identity"))[1] == WITH_BANNER


def test_an_event_stream_is_not_held() -> None:
    application = Application("data: 1\n\n", "data: 2\n\n", content_type="text/event-stream")
    assert ask(application, finish=False)[1] == "data: 1\n\ndata: 2\n\n"


def test_a_part_of_a_page_is_left_untouched() -> None:
    head, body = ask(Application(PAGE, code=206, content_range="bytes 0-99/200"))
    assert body == PAGE
    assert length(head) == len(PAGE)


@pytest.mark.parametrize("code", [204, 304])
def test_an_answer_without_a_body_is_left_untouched(code: int) -> None:
    head, body = ask(Application(code=code, etag='"1"'))
    assert body == ""
    assert 'etag: "1"' in head


def test_an_empty_page_stays_empty() -> None:
    head, body = ask(Application("", content_length="0"))
    assert (length(head), body) == (0, "")
    assert ask(Application())[1] == ""


def test_what_the_application_says_of_its_own_bytes_is_not_said_of_others() -> None:
    digest = {"content_digest": "sha-256=:x:", "content_md5": "x", "accept_ranges": "bytes"}
    head, _ = ask(Application(PAGE, etag='"1"', **digest))
    assert 'etag: w/"1"' in head
    assert "accept-ranges: none" in head
    assert "digest" not in head
    assert "content-md5" not in head


def test_a_weak_etag_is_weak_enough() -> None:
    assert 'etag: w/"1"' in ask(Application(PAGE, etag='W/"1"'))[0]


def test_an_error_page_of_the_application_gets_the_banner_too() -> None:
    assert ask(Application(PAGE, code=404))[1] == WITH_BANNER


def test_letters_beyond_ascii_are_right_in_every_charset() -> None:
    body = ask(Application("<body>"), Options("Grüße ☃"))[1]
    assert body == "<body>Gr&#252;&#223;e &#9731;"


def test_looking_again_begins_where_nothing_was_decided() -> None:
    page = b"<html><head><!-- x --><script>1</script><body cl"
    place, start = after_body_tag(page, 0, len(page))
    assert place is None
    assert page[start:] == b"<body cl"
    assert after_body_tag(b"x" * 1000, 0, 1000) == (None, 1000)


# What an operator writes.


def written(folder: Path, options: str) -> object:
    """What becomes of the options in a deploy.yml."""
    file = folder / "deploy.yml"
    wrappers = f"x-kproxy:\n  wrappers:\n    - banner: {options}\n"
    file.write_text("service: app\nservers: [10.0.0.1]\n" + wrappers)
    config = load([file], destination=None, server=None, environ={}, wrappers=find_wrappers())
    return config.services[0].wrappers[0].options


def test_the_options_are_read(tmp_path: Path) -> None:
    assert written(tmp_path, '{html: "<b>Hi</b>"}') == Options("<b>Hi</b>")
    assert written(tmp_path, "{html: Hi, search: 10}") == Options("Hi", 10)


def test_a_banner_without_its_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="html is missing"):
        written(tmp_path, "")
