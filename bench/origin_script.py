"""An origin without nginx: PORT FOLDER. Files of the folder by name, /up, and POST to anything."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from pathlib import Path
from typing import cast

import httptools

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n%b"


class Origin(asyncio.Protocol):
    """One connection: every request is answered with 200, once its body has come."""

    def __init__(self, answers: dict[bytes, bytes]) -> None:
        self._answers = answers
        self._parser = httptools.HttpRequestParser(self)
        self._path = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        """httptools: the request line has been read."""
        self._path = url

    def on_message_complete(self) -> None:
        """httptools: the body has been read."""
        self._transport.write(self._answers.get(self._path, self._answers[b"/up"]))
        if not self._parser.should_keep_alive():
            self._transport.close()


async def serve(port: int, folder: Path) -> None:
    """Listen until a signal ends it."""
    answers = {b"/up": HEAD % (2, b"ok")}
    for file in folder.iterdir():
        body = file.read_bytes()
        answers[b"/" + file.name.encode()] = HEAD % (len(body), body)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Origin(answers), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    with suppress(ImportError):
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.run(serve(int(sys.argv[1]), Path(sys.argv[2])))
