"""A new user's API: ASGI with a WebSocket and events, to be run by uvicorn."""

from __future__ import annotations

from typing import Any


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await chat(receive, send)
    elif scope["type"] == "http":
        await answer(scope, send)


async def chat(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": f"you said {message['text']}"})


async def answer(scope: dict[str, Any], send: Any) -> None:
    events = scope["path"] == "/events"
    kind = b"text/event-stream" if events else b"text/plain"
    start = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]}
    await send(start)
    if events:
        for number in range(3):
            body = b"data: %d\n\n" % number
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    else:
        await send({"type": "http.response.body", "body": b"api " + scope["path"].encode()})
