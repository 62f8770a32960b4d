"""What is a request's head, and what is refused (RFC 9110, RFC 9112; issue 2 section 4)."""

from __future__ import annotations

import pytest

from kproxy.http.heads import (
    CHUNKED,
    MAX_FIELDS,
    MAX_HEAD,
    MAX_REQUEST_LINE,
    BadHead,
    HeadParser,
    RequestHead,
    refuse_early,
)
from kproxy.http.hosts import valid_host


def read(head: bytes) -> RequestHead:
    return HeadParser().request(head)


def request(
    *lines: bytes, start: bytes = b"GET / HTTP/1.1", host: bytes = b"Host: a.example"
) -> bytes:
    return b"\r\n".join([start, *([host] if host else []), *lines])


def names(head: RequestHead) -> set[bytes]:
    return set(head.headers.fields)


def refusal(head: bytes) -> int:
    """The status that a head is refused with."""
    with pytest.raises(BadHead) as caught:
        read(head)
    assert str(caught.value)
    return caught.value.status


# The fields that frame a message.


@pytest.mark.parametrize(
    "lines",
    [
        [b"Content-Length: 5", b"Transfer-Encoding: chunked"],
        [b"Transfer-Encoding: chunked", b"Content-Length: 0"],
        [b"content-length: 5", b"TRANSFER-ENCODING: chunked"],
        [b"Content-Length: 5", b"Transfer-Encoding: identity"],
    ],
)
def test_a_request_with_both_content_length_and_transfer_encoding_is_refused(
    lines: list[bytes],
) -> None:
    assert refusal(request(*lines)) == 400


@pytest.mark.parametrize(
    "lines",
    [
        [b"Content-Length: 5", b"Content-Length: 6"],
        [b"Content-Length: 5", b"Content-Length: 5"],
        [b"Content-Length: 5", b"X: y", b"content-length: 6"],
        [b"Content-Length: 5, 6"],
        [b"Content-Length: 5, 5"],
        [b"Content-Length: 5,"],
    ],
)
def test_several_content_lengths_are_refused(lines: list[bytes]) -> None:
    assert refusal(request(*lines)) == 400


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b" ",
        b"+5",
        b"-5",
        b"-0",
        b"5.0",
        b"5e1",
        b"0x5",
        b"5 5",
        b"5_5",
        b"five",
        b"5;",
        b'"5"',
        "５".encode(),
        "²".encode("latin-1"),
        b"9" * 19,
        b"1" + b"0" * 400,
    ],
)
def test_a_content_length_that_is_not_a_plain_number_is_refused(value: bytes) -> None:
    assert refusal(request(b"Content-Length: " + value)) == 400


@pytest.mark.parametrize(
    ("value", "length"),
    [(b"0", 0), (b"5", 5), (b"  5\t", 5), (b"0005", 5), (b"9" * 18, 10**18 - 1)],
)
def test_a_plain_content_length_is_taken(value: bytes, length: int) -> None:
    assert read(request(b"Content-Length:" + value)).length == length


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([b"Transfer-Encoding: identity"], 400),
        ([b"Transfer-Encoding: gzip"], 400),
        ([b"Transfer-Encoding: chunked, gzip"], 400),
        ([b"Transfer-Encoding: chunked, identity"], 400),
        ([b"Transfer-Encoding: chunked, chunked"], 400),
        ([b"Transfer-Encoding: chunked, gzip, chunked"], 400),
        ([b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"], 400),
        ([b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"], 400),
        ([b"Transfer-Encoding: xchunked"], 400),
        ([b"Transfer-Encoding: chunkedx"], 400),
        ([b"Transfer-Encoding: chunked;q=1"], 400),
        ([b'Transfer-Encoding: "chunked"'], 400),
        ([b"Transfer-Encoding: chunked,"], 400),
        ([b"Transfer-Encoding: ,chunked"], 501),
        ([b"Transfer-Encoding:"], 400),
        ([b"Transfer-Encoding: gzip, chunked"], 501),
        ([b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked"], 501),
    ],
)
def test_a_transfer_encoding_that_is_not_one_chunked_is_refused(
    lines: list[bytes], status: int
) -> None:
    assert refusal(request(*lines)) == status


@pytest.mark.parametrize("value", [b"chunked", b"Chunked", b"CHUNKED", b"\tchunked  "])
def test_chunked_is_taken_in_any_case_and_is_gone_from_the_headers(value: bytes) -> None:
    head = read(request(b"Transfer-Encoding: " + value))
    assert head.length == CHUNKED
    assert names(head) == {b"host"}


def test_transfer_encoding_in_http_1_0_is_refused() -> None:
    start = b"POST / HTTP/1.0"
    assert refusal(request(b"Transfer-Encoding: chunked", start=start)) == 400


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"POST"])
def test_whether_there_is_a_body_does_not_depend_on_the_method(method: bytes) -> None:
    start = method + b" / HTTP/1.1"
    assert read(request(start=start)).length == 0
    assert read(request(b"Content-Length: 3", start=start)).length == 3
    assert read(request(b"Transfer-Encoding: chunked", start=start)).length == CHUNKED


def test_naming_framing_fields_in_connection_does_not_change_the_framing() -> None:
    head = read(request(b"Connection: transfer-encoding", b"Transfer-Encoding: chunked"))
    assert head.length == CHUNKED
    head = read(request(b"Connection: content-length", b"Content-Length: 3"))
    assert head.length == 3
    assert b"content-length" in names(head)


# Lines.


@pytest.mark.parametrize(
    "line",
    [
        b"X: a\nY: b",
        b"X: a\n",
        b"X: a\rb",
        b"X: a\r",
        b"\rX: a",
        b"X\n: a",
        b"\nX: a",
        b"X:\r a",
    ],
)
def test_a_bare_cr_or_lf_in_a_header_is_refused(line: bytes) -> None:
    assert refusal(request(line)) == 400


@pytest.mark.parametrize("start", [b"GET / HTTP/1.1\n", b"GET / HTTP/1.1\r", b"GET /\r HTTP/1.1"])
def test_a_bare_cr_or_lf_in_the_request_line_is_refused(start: bytes) -> None:
    assert refusal(request(start=start)) == 400


def test_a_head_with_bare_line_feeds_only_is_refused() -> None:
    assert refusal(b"GET / HTTP/1.1\nHost: a.example\n\n") == 400


@pytest.mark.parametrize(
    "line",
    [
        b"Content-Length : 5",
        b"Content-Length\t: 5",
        b"X : y",
        b"Host : b.example",
        b" X: y",
        b"\tX: y",
    ],
)
def test_white_space_around_a_header_name_is_refused(line: bytes) -> None:
    assert refusal(request(line)) == 400


@pytest.mark.parametrize("fold", [b" folded", b"\tfolded", b" ", b" X: y"])
def test_obsolete_folding_is_refused(fold: bytes) -> None:
    assert refusal(request(b"X: a", fold)) == 400
    assert refusal(request(fold)) == 400


@pytest.mark.parametrize("octet", [octet for octet in [*range(32), 127] if octet not in b"\t\r\n"])
def test_a_control_character_anywhere_in_a_head_is_refused(octet: int) -> None:
    control = bytes([octet])
    assert refusal(request(b"X: a" + control + b"b")) == 400
    assert refusal(request(b"X: a" + control)) == 400
    assert refusal(request(b"X:" + control + b"a")) == 400
    assert refusal(request(b"X" + control + b": a")) == 400
    assert refusal(request(start=b"GET /" + control + b" HTTP/1.1")) == 400
    assert refusal(request(start=b"G" + control + b"T / HTTP/1.1")) == 400
    assert refusal(request(host=b"Host: a" + control + b"b")) == 400


@pytest.mark.parametrize(
    "name",
    [bytes([octet]) for octet in range(33, 127) if bytes([octet]) in b'"(),/;<=>?@[\\]{}']
    + [b"\x80", b"\xc3\xa4", b"\xff", b""],
)
def test_a_header_name_that_is_not_a_token_is_refused(name: bytes) -> None:
    assert refusal(request(name + b": y")) == 400
    if name:
        assert refusal(request(b"X" + name + b"Y: y")) == 400


@pytest.mark.parametrize("line", [b"X", b"no colon here", b"", b"X y"])
def test_a_line_without_a_colon_is_refused(line: bytes) -> None:
    assert refusal(request(line)) == 400


def test_every_token_character_is_taken_in_a_name() -> None:
    name = b"!#$%&'*+-.^_`|~09azAZ"
    head = read(request(name + b": y"))
    assert head.headers.getRawHeaders(name) == [b"y"]


def test_a_value_may_hold_visible_characters_spaces_tabs_and_octets_over_7f() -> None:
    value = bytes([*range(33, 127), 9, 32, *range(128, 256)])
    assert read(request(b"X: " + value)).headers.getRawHeaders(b"X") == [value]


def test_a_value_may_be_empty_and_loses_the_white_space_around_it() -> None:
    head = read(request(b"X:", b"Y: \t y \t", b"Z:z"))
    assert head.headers.getRawHeaders(b"X") == [b""]
    assert head.headers.getRawHeaders(b"Y") == [b"y"]
    assert head.headers.lines() == [b"Host: a.example", b"X: ", b"Y: y", b"Z: z"]


def test_repeated_headers_keep_their_order_and_spelling() -> None:
    head = read(request(b"x-A: 1", b"B: 2", b"X-a: 3"))
    assert head.headers.getRawHeaders(b"x-a") == [b"1", b"3"]
    assert b"\r\n".join(head.headers.lines()) == b"Host: a.example\r\nx-A: 1\r\nX-a: 3\r\nB: 2"


def test_a_refused_line_is_refused_again() -> None:
    parser = HeadParser()
    for _ in range(2):
        with pytest.raises(BadHead):
            parser.request(request(b"X : y"))


# Host.


def test_http_1_1_without_a_host_is_refused() -> None:
    assert refusal(request(host=b"")) == 400


def test_two_hosts_are_refused_even_if_they_are_the_same() -> None:
    assert refusal(request(b"Host: b.example")) == 400
    assert refusal(request(b"HOST: a.example")) == 400
    assert refusal(request(b"Host: b.example", start=b"GET / HTTP/1.0")) == 400
    assert refusal(request(b"Host: b.example", start=b"GET http://a.example/ HTTP/1.1")) == 400


def test_http_1_0_needs_no_host() -> None:
    assert read(request(start=b"GET / HTTP/1.0", host=b"")).host == b""


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b"a b",
        b"a/b",
        b"a?b",
        b"a#b",
        b"a@b",
        b"user:password@b",
        b"a:b",
        b"a:-1",
        b"a:123456",
        b"a:80:80",
        b"a:80, b",
        b"http://a",
        b":80",
        b"[::1",
        b"[::1]80",
        b"[::1]a",
        b"[::g]",
        b"[]",
        b"::1",
        b"a\\b",
        b'a"b',
        b"a<b>",
        b"a{b}",
        b"a[b]",
        b"a|b",
        b"a^b",
        b"a`b",
        "ä.example".encode(),
        b"a\x80",
    ],
)
def test_a_host_that_is_not_one_is_refused(host: bytes) -> None:
    assert not valid_host(host)
    assert refusal(request(host=b"Host: " + host)) == 400
    if b"/" not in host and b"?" not in host:
        assert refusal(request(start=b"GET http://" + host + b"/ HTTP/1.1")) == 400


@pytest.mark.parametrize(
    "host",
    [
        b"a",
        b"a.example",
        b"A.Example.",
        b"a.example:80",
        b"a.example:",
        b"a_b.example",
        b"xn--bcher-kva.example",
        b"127.0.0.1:8080",
        b"[::1]",
        b"[::1]:8080",
        b"[::ffff:127.0.0.1]",
        b"a%20b",
    ],
)
def test_a_host_is_a_name_or_an_address_with_or_without_a_port(host: bytes) -> None:
    assert valid_host(host)
    assert read(request(host=b"Host: " + host)).host == host


# The request line.


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b" ",
        b"GET",
        b"GET /",
        b"GET / ",
        b"GET  / HTTP/1.1",
        b"GET /  HTTP/1.1",
        b"GET / HTTP/1.1 ",
        b" GET / HTTP/1.1",
        b"GET\t/ HTTP/1.1",
        b"GET /\tHTTP/1.1",
        b"GET\x0b/ HTTP/1.1",
        b"GET\xa0/\xa0HTTP/1.1",
        b"GET / x HTTP/1.1",
        b"GET /a b HTTP/1.1",
        b"GET HTTP/1.1",
        b"/ HTTP/1.1",
    ],
)
def test_a_request_line_with_anything_but_two_single_spaces_is_refused(start: bytes) -> None:
    assert refusal(request(start=start)) == 400


@pytest.mark.parametrize(
    ("version", "status"),
    [
        (b"HTTP/1.2", 400),
        (b"HTTP/1.", 400),
        (b"HTTP/1", 400),
        (b"HTTP/11", 400),
        (b"HTTP/1.10", 400),
        (b"HTTP/01.1", 400),
        (b"HTTP/1.1x", 400),
        (b"http/1.1", 400),
        (b"HTTP/ 1.1", 400),
        (b"HTTPS/1.1", 400),
        (b"ICY/1.1", 400),
        (b"HTTP/0.9", 505),
        (b"HTTP/2.0", 505),
        (b"HTTP/3.0", 505),
    ],
)
def test_another_version_is_refused(version: bytes, status: int) -> None:
    assert refusal(request(start=b"GET / " + version)) == status


@pytest.mark.parametrize("method", [b"", b"G(T", b"GET:", b"G\x80T", b"{}", b"G,T"])
def test_a_method_that_is_not_a_token_is_refused(method: bytes) -> None:
    assert refusal(request(start=method + b" / HTTP/1.1")) == 400


@pytest.mark.parametrize("method", [b"GET", b"get", b"PROPFIND", b"M-SEARCH", b"X!#$"])
def test_any_token_is_a_method_and_keeps_its_case(method: bytes) -> None:
    assert read(request(start=method + b" / HTTP/1.1")).method == method


@pytest.mark.parametrize(
    "target",
    [
        b"x",
        b"example.com/",
        b"example.com:80",
        b"?x",
        b"/#fragment",
        b"/a#",
        b"ftp://a.example/",
        b"http:/a.example",
        b"http:a.example",
        b"://a.example/",
        b"http://",
        b"http:///path",
        b"http://user@a.example/",
        b"javascript:alert(1)",
        b"*",
        b"**",
        b"*/",
    ],
)
def test_a_target_that_is_no_path_and_no_url_is_refused(target: bytes) -> None:
    assert refusal(request(start=b"GET " + target + b" HTTP/1.1")) == 400


@pytest.mark.parametrize(
    "target",
    [
        b"/",
        b"//",
        b"/a/b;c=d?e=f&g=%20%zz",
        b"/?",
        b"/??",
        b"/a//b/../c",
        b"/\\",
        b'/|^`{}<>"',
        "/bücher".encode(),
        b"/http://b.example/",
    ],
)
def test_a_path_goes_on_byte_for_byte(target: bytes) -> None:
    assert read(request(start=b"GET " + target + b" HTTP/1.1")).target == target


@pytest.mark.parametrize(
    ("url", "host", "target"),
    [
        (b"http://b.example/x?y=z", b"b.example", b"/x?y=z"),
        (b"http://b.example", b"b.example", b"/"),
        (b"http://b.example?y", b"b.example", b"/?y"),
        (b"http://b.example:81/", b"b.example:81", b"/"),
        (b"HTTP://B.example/", b"B.example", b"/"),
        (b"https://[::1]:8/x", b"[::1]:8", b"/x"),
        (b"http://b.example/http://c.example/", b"b.example", b"/http://c.example/"),
    ],
)
def test_the_host_of_an_absolute_target_counts_more_than_the_header(
    url: bytes, host: bytes, target: bytes
) -> None:
    head = read(request(start=b"GET " + url + b" HTTP/1.1"))
    assert (head.host, head.target) == (host, target)
    assert head.headers.getRawHeaders(b"host") == [host]


def test_an_absolute_target_does_not_stand_in_for_a_missing_host() -> None:
    assert refusal(request(start=b"GET http://b.example/ HTTP/1.1", host=b"")) == 400


def test_options_may_be_about_the_server_itself() -> None:
    assert read(request(start=b"OPTIONS * HTTP/1.1")).target == b"*"
    # RFC 9112 section 3.2.4: the last proxy turns an absolute target without a path into it.
    head = read(request(start=b"OPTIONS http://b.example HTTP/1.1"))
    assert (head.target, head.host) == (b"*", b"b.example")
    assert read(request(start=b"OPTIONS http://b.example/ HTTP/1.1")).target == b"/"
    assert read(request(start=b"OPTIONS http://b.example?x HTTP/1.1")).target == b"/?x"


@pytest.mark.parametrize("target", [b"a.example:443", b"/", b"*", b"http://a.example/"])
def test_connect_is_refused_as_not_allowed(target: bytes) -> None:
    assert refusal(request(start=b"CONNECT " + target + b" HTTP/1.1")) == 405


# Limits.


def test_a_request_line_of_8_kb_is_taken_and_a_longer_one_is_414() -> None:
    room = MAX_REQUEST_LINE - len(b"GET / HTTP/1.1")
    assert MAX_REQUEST_LINE == 8192
    assert len(read(request(start=b"GET /%b HTTP/1.1" % (b"x" * room))).target) == room + 1
    assert refusal(request(start=b"GET /%b HTTP/1.1" % (b"x" * (room + 1)))) == 414


def test_a_hundred_fields_are_taken_and_one_more_is_431() -> None:
    lines = [b"X-%d: y" % i for i in range(MAX_FIELDS - 1)]
    assert MAX_FIELDS == 100
    assert len(read(request(*lines)).headers.fields) == 100
    assert refusal(request(*lines, b"X: y")) == 431
    assert refusal(request(*[b"X: y"] * 100)) == 431


@pytest.mark.parametrize(
    ("beginning", "status"),
    [
        (b"", None),
        (b"G", None),
        (b"GET / HTTP/1.1\r\nHost: a", None),
        (b"GET / HTTP/1.1\r", None),
        (b"GET /" + b"x" * MAX_REQUEST_LINE, 414),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * MAX_HEAD, None),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * (MAX_HEAD + MAX_REQUEST_LINE), 431),
        (b"GET / HTTP/1.1\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\n", 400),
        (b"\n", 400),
    ],
)
def test_what_can_be_told_of_a_beginning_is_told(beginning: bytes, status: int | None) -> None:
    error = refuse_early(beginning)
    assert (error and error.status) == status


# Hop by hop.


@pytest.mark.parametrize(
    "name",
    [
        b"Connection",
        b"Keep-Alive",
        b"Proxy-Connection",
        b"Proxy-Authenticate",
        b"Proxy-Authorization",
        b"TE",
        b"Trailer",
        b"Upgrade",
        b"kEEP-aLIVE",
    ],
)
def test_hop_by_hop_fields_are_removed(name: bytes) -> None:
    assert names(read(request(name + b": x", b"Y: z"))) == {b"host", b"y"}


@pytest.mark.parametrize(
    "lines",
    [
        [b"Connection: x-secret"],
        [b"Connection: X-Secret, close"],
        [b"Connection: close ,\tx-SECRET"],
        [b"Connection: close", b"connection: X-Secret"],
        [b"Connection: ,,X-Secret,"],
    ],
)
def test_fields_that_connection_names_are_removed(lines: list[bytes]) -> None:
    head = read(request(b"X-Secret: 1", *lines, b"x-secret: 2", b"Y: z"))
    assert names(head) == {b"host", b"y"}


@pytest.mark.parametrize(
    "name", [b"Host", b"Content-Length", b"Cache-Control", b"Authorization", b"Cookie"]
)
def test_a_client_can_not_have_the_fields_removed_that_the_target_decides_by(name: bytes) -> None:
    fields = [b"Content-Length: 1", b"Cache-Control: x", b"Authorization: x", b"Cookie: x"]
    head = read(request(*fields, b"Connection: " + name))
    assert name.lower() in names(head)


@pytest.mark.parametrize(
    ("version", "value", "keeps"),
    [
        (b"1.1", None, True),
        (b"1.1", b"keep-alive", True),
        (b"1.1", b"close", False),
        (b"1.1", b"Close", False),
        (b"1.1", b"x, close", False),
        (b"1.1", b"close, keep-alive", False),
        (b"1.1", b"closed", True),
        (b"1.0", None, False),
        (b"1.0", b"keep-alive", True),
        (b"1.0", b"Keep-Alive", True),
        (b"1.0", b"close", False),
        (b"1.0", b"keep-alive, close", False),
    ],
)
def test_whether_a_connection_persists(version: bytes, value: bytes | None, keeps: bool) -> None:
    lines = [] if value is None else [b"Connection: " + value]
    assert read(request(*lines, start=b"GET / HTTP/" + version)).keep_alive is keeps


# Expect and Upgrade.


def test_an_expectation_of_100_continue_is_the_proxys_to_answer() -> None:
    head = read(request(b"Expect: 100-Continue", b"Content-Length: 1"))
    assert head.expects_continue
    assert b"expect" not in names(head)


def test_an_expectation_in_http_1_0_is_ignored() -> None:
    head = read(request(b"Expect: 100-continue", start=b"POST / HTTP/1.0"))
    assert not head.expects_continue
    assert b"expect" not in names(head)


@pytest.mark.parametrize(
    "lines", [[b"Expect: 200-ok"], [b"Expect: 100-continue"] * 2, [b"Expect:"]]
)
def test_any_other_expectation_is_refused(lines: list[bytes]) -> None:
    assert refusal(request(*lines)) == 417


@pytest.mark.parametrize(
    ("lines", "upgrade"),
    [
        ([b"Connection: Upgrade", b"Upgrade: websocket"], b"websocket"),
        ([b"Connection: keep-alive, UPGRADE", b"Upgrade: a", b"Upgrade: b/2"], b"a, b/2"),
        ([b"Upgrade: websocket"], b""),
        ([b"Connection: Upgrade"], b""),
    ],
)
def test_an_upgrade_counts_if_connection_names_it(lines: list[bytes], upgrade: bytes) -> None:
    head = read(request(*lines))
    assert head.upgrade == upgrade
    assert names(head) == {b"host"}


def test_http_1_0_can_not_upgrade() -> None:
    head = read(request(b"Connection: Upgrade", b"Upgrade: x", start=b"GET / HTTP/1.0"))
    assert head.upgrade == b""
    assert names(head) == {b"host"}


# What is remembered between messages.


def test_reading_a_head_again_gives_the_same() -> None:
    parser = HeadParser()
    head = request(b"X: 1", b"x: 2", b"Connection: Y", b"Y: z", b"Cookie: a=b")
    first, second = parser.request(head), parser.request(head)
    assert first == second
    assert first.headers.fields is not second.headers.fields


def test_changing_the_headers_of_one_request_leaves_the_next_alone() -> None:
    parser = HeadParser()
    parser.request(request(b"X: 1")).headers.setRawHeaders(b"X", [b"2"])
    assert parser.request(request(b"X: 1")).headers.getRawHeaders(b"X") == [b"1"]


def test_what_is_remembered_is_bounded_and_holds_no_credentials() -> None:
    parser = HeadParser()
    for i in range(20):
        lines = [b"X-%d-%d: y" % (i, j) for j in range(90)]
        secrets = [b"Cookie: %d" % i, b"Authorization: %d" % i, b"Long: " + b"x" * 300]
        parser.request(request(*lines, *secrets, host=b"Host: a%d.example" % i))
        for j in range(200):
            parser.request(request(host=b"Host: b%d.%d.example" % (i, j)))
    remembered = parser._lines.entries
    assert 0 < len(remembered) <= parser._lines.MOST_LINES
    parser.request(request(host=b"Host: " + b"long" * 10_000))
    assert 0 < len(parser._hosts) <= parser._lines.MOST_LINES
    assert max(map(len, parser._hosts)) < 300
    assert not [line for line in remembered if line.startswith((b"Cookie", b"Auth", b"Long"))]
