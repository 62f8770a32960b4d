"""The first lines of a worker process. Whatever keeps it from coming up, the control process hears.

Nothing but the standard library is imported here, and kproxy itself only where a failure is told.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import Any

VARIABLE = "KPROXY_WORKER"
"""The environment variable with the `kproxy.workers.spawning.Orders`, as JSON."""
CODE = (
    "import sys, json, os; "
    f"orders = json.loads(os.environ[{VARIABLE!r}]); "
    "sys.path[:] = orders['path'] + [p for p in sys.path if p and p not in orders['path']]; "
    "from kproxy.workers.boot import boot; boot(orders)"
)
"""What the interpreter runs. It finds what the control process finds (twistd adds a folder, for one),
and after that what has been installed since."""


def boot(orders: Any) -> None:
    """Be a worker until the end."""
    os.environ.pop(VARIABLE, None)
    gc.disable()  # until there can be garbage: what is imported stays
    try:
        from kproxy.workers.worker import main
    except BaseException as error:
        _tell(orders["channel"], f"{type(error).__name__}: {error}")
        sys.exit(1)
    main(orders)


def _tell(channel: int, error: str) -> None:
    from kproxy.workers.frames import encode

    os.write(channel, encode({"do": "failed", "error": error}))
