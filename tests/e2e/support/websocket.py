"""WebSocket servers that a test scripts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from websockets.sync.server import ServerConnection, serve


@contextmanager
def websocket_target(talk: Callable[[ServerConnection], None]) -> Iterator[int]:
    """A server that does this with each connection; its port."""
    with serve(talk, "127.0.0.1", 0, max_size=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.socket.getsockname()[1]
        server.shutdown()
        thread.join(20)
