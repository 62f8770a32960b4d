"""Commands and limits that the page on operations shows."""

from __future__ import annotations

import configparser
import re
import shlex

import pytest
from twisted.scripts.twistd import ServerOptions

from kproxy import front, lines, network, sockets
from kproxy.cli.main import parser
from kproxy.http import (
    chunked,
    heads,
    http1,
    http2_frames,
    http2_leaving,
    http2_limits,
    http2_machine,
    http2_outbox,
)
from kproxy.http.site import Limits
from kproxy.tap import Options
from kproxy.tls import clienthello, server
from kproxy.upstream import pool
from tests.docs.pages import DOCS, Block, blocks

TEXT = (DOCS / "operations.md").read_text("utf-8")


def commands(block: Block) -> list[list[str]]:
    """What an ini file starts."""
    pairs = re.findall(r"^(\w+)=(.*)$", block.text, re.M)
    return [
        shlex.split(value) for key, value in pairs if key == "command" or key.startswith("Exec")
    ]


UNITS = [block for block in blocks(DOCS / "operations.md") if block.language == "ini"]


def test_there_are_units_to_look_at() -> None:
    assert [unit.name for unit in UNITS] == ["kproxy.service", "supervisord.conf"]


@pytest.mark.parametrize("unit", UNITS, ids=str)
def test_a_unit_is_well_formed_and_starts_what_there_is(unit: Block) -> None:
    configparser.RawConfigParser(strict=False).read_string(unit.text)
    started = 0
    for program, *arguments in commands(unit):
        if program.endswith("/twistd"):
            started += 1
            cut = arguments.index("kproxy")
            ServerOptions().parseOptions(arguments[:cut])
            Options().parseOptions(arguments[cut + 1 :])
        elif program.endswith("/kproxy"):
            parser().parse_args(arguments)
    assert started == 1


def test_the_example_for_systemd_is_the_unit_that_is_shown() -> None:
    example = (DOCS.parent / "examples" / "kproxy.service").read_text("utf-8")
    assert example.partition("\n\n")[2] == UNITS[0].text


def limit_of(what: str) -> str:
    found = re.search(rf"^\| {re.escape(what)} \| ([^|]*) \|", TEXT, re.M)
    assert found is not None, what
    return found[1]


@pytest.mark.parametrize(
    ("what", "limit"),
    [
        ("request line", f"{heads.MAX_REQUEST_LINE >> 10} KB"),
        ("all headers of a request", f"{heads.MAX_HEAD >> 10} KB, {heads.MAX_FIELDS} of them"),
        ("all headers of a response", f"{heads.MAX_HEAD >> 10} KB, {heads.MAX_FIELDS} of them"),
        ("headers to be complete", f"{Limits().headers:g} s"),
        ("idle connection of a client", f"{Limits().headers:g} s"),
        ("request body that does not move", f"{Limits().stalled:g} s"),
        ("response that the client does not take", f"{Limits().stalled:g} s"),
        ("request that the target does not take", f"{pool.STALLED:g} s"),
        ("line of a chunk size", f"{chunked.MAX_LINE >> 10} KB"),
        ("trailers", f"{chunked.MAX_TRAILERS >> 10} KB, 100 of them"),
        ("TLS handshake, from the connection on", f"{server.HANDSHAKE_LIMIT:g} s"),
        ("handshake that waits for a new certificate", f"{server.ISSUANCE_LIMIT:g} s more"),
        ("what a TLS client says first", f"{clienthello.MAX_HELLO >> 10} KB"),
        ("connecting to a target", f"{network.LoopNetwork.CONNECT_TIMEOUT:g} s"),
        ("idle connections to a target", f"{pool.MOST_IDLE}, {pool.IDLE:g} s"),
        ("pipelined requests", f"{http1.MAX_AHEAD >> 10} KB ahead"),
        ("requests of a connection at the same time", f"{http2_machine.MAX_STREAMS}"),
        (
            "body of a request that nobody has taken yet",
            (
                f"{http2_machine.STREAM_WINDOW >> 10} KB, "
                f"{http2_machine.CONNECTION_WINDOW >> 20} MB for a connection"
            ),
        ),
        ("frame of a client", f"{http2_frames.MAX_FRAME >> 10} KB"),
        ("compressed headers", f"{http2_frames.MAX_BLOCK >> 10} KB"),
        (
            "responses that a client does not take",
            f"{http2_outbox.MOST_HELD >> 20} MB for a connection",
        ),
        ("bytes that wait in the transport", f"{http2_outbox.MOST_UNSENT >> 10} KB"),
        (
            "requests taken back, malformed or refused",
            f"{http2_limits.MOST_RESETS} in {http2_limits.PER_SECONDS:g} s",
        ),
        (
            "frames that move nothing",
            f"{http2_limits.MOST_IDLE_FRAMES} in {http2_limits.PER_SECONDS:g} s",
        ),
    ],
)
def test_the_table_of_limits_is_right(what: str, limit: str) -> None:
    assert limit_of(what) == limit


def test_limits_in_the_text_are_right() -> None:
    assert f"(limit − {front.RESERVED_DESCRIPTORS}) / 2" in TEXT
    assert f"backlog ({sockets.BACKLOG} at most" in TEXT
    assert f"up to {lines.MOST_WAITING >> 20} MB of lines" in TEXT
    assert http2_leaving.FINAL_GOAWAY == 1
    assert "and a second later, or as soon as" in TEXT
    assert f"more than {http2_limits.UPDATES_PER_FRAME} WINDOW_UPDATE for each frame" in TEXT
