"""Applications as people run them: a server process with one of the modules in ``apps``."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

APPS = Path(__file__).parents[1] / "apps"


class App:
    """A server process on a socket that is handed to it, so that nobody can take its port."""

    def __init__(self, command: Callable[[int], Sequence[str]], log: Path) -> None:
        """@param command: from the socket's number to the arguments of ``python -m``."""
        self.log = log
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.socket.getsockname()[1]}"
        number = self.socket.fileno()
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *command(number)],
                cwd=APPS,
                pass_fds=[number],
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def __enter__(self) -> App:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def stop(self) -> None:
        self.socket.close()
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def gunicorn(module: str, log: Path) -> App:
    """A WSGI application: ``shop:app`` is ``app`` in ``apps/shop.py``."""
    return App(
        lambda fd: ["gunicorn", "--workers=1", "--threads=4", f"--bind=fd://{fd}", module], log
    )


def uvicorn(module: str, log: Path) -> App:
    """An ASGI application."""
    return App(lambda fd: ["uvicorn", f"--fd={fd}", "--no-access-log", module], log)
