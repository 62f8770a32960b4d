"""A page that talks to its server by WebSocket: ASGI, to be run by uvicorn.

The page is loaded only once the talk is over, since its second script is held until then.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

PAGE = """\
<!doctype html>
<title>A page</title>
<p id="protocol"></p>
<p id="heard"></p>
<script>
  const show = (id, text) => { document.getElementById(id).textContent = text; };
  show("protocol", performance.getEntriesByType("navigation")[0].nextHopProtocol);
  const chat = new WebSocket(`wss://${location.host}/chat${location.pathname}`);
  chat.onopen = () => chat.send("hello");
  chat.onmessage = event => { show("heard", event.data); chat.send("thank you"); };
</script>
<script src="/after-chat%s"></script>
"""
HTML, SCRIPT = b"text/html; charset=utf-8", b"text/javascript"

_over: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await chat(_over[scope["path"].removeprefix("/chat")], receive, send)
    elif scope["type"] == "http":
        path = scope["path"]
        if path.startswith("/after-chat"):
            await _over[path.removeprefix("/after-chat")].wait()
            await answer(send, SCRIPT, b"")
        else:
            await answer(send, HTML, (PAGE % path).encode())


async def chat(over: asyncio.Event, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    hello = await receive()
    await send({"type": "websocket.send", "text": f"you said {hello['text']}"})
    await receive()
    over.set()
    await receive()


async def answer(send: Any, kind: bytes, body: bytes) -> None:
    headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
