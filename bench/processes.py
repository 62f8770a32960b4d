"""Starting programs and ending them again, each by its own handle."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

Process = subprocess.Popen[bytes]

SYSTEM_FOLDERS = "/usr/local/sbin:/usr/sbin:/sbin"
TERMINATE_SECONDS = 5.0
POLL_SECONDS = 0.002


class NotReadyError(Exception):
    """A program ended, or never answered; the text says what it printed last."""


def find_program(name: str) -> str | None:
    """The path of a program, also of one in the folders that only root has on PATH."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{SYSTEM_FOLDERS}")


def first_line(*argv: str) -> str:
    """The first line that a program prints, on either stream, whatever its exit status."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    return ((done.stdout or done.stderr).splitlines() or [""])[0].strip()


def spawn(
    argv: Sequence[str], workdir: Path, environment: Mapping[str, str] | None = None
) -> Process:
    """Start a program as leader of its own session, with stdout and stderr in ``workdir``."""
    with (workdir / "stdout").open("wb") as out, (workdir / "stderr").open("wb") as err:
        return subprocess.Popen(
            argv,
            cwd=workdir,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )


def stop(process: Process) -> None:
    """End a program that :func:`spawn` started, with all its children."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(TERMINATE_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextmanager
def stopped_at_exit(process: Process) -> Iterator[Process]:
    """Ends the program when the block is left, however that happens."""
    try:
        yield process
    finally:
        stop(process)


def raise_file_limit() -> int:
    """Allow this process and its children as many open files as the system lets it; that number."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def connect(port: int, host: str, tls: bool = False, timeout: float = 2.0) -> socket.socket:
    """A connection to a proxy; over TLS without a look at its certificate."""
    connection = socket.create_connection(("127.0.0.1", port), timeout)
    if not tls:
        return connection
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        return context.wrap_socket(connection, server_hostname=host)
    except OSError:
        connection.close()
        raise


def status_of(port: int, host: str, tls: bool = False, path: str = "/up") -> int | None:
    """The status of one GET on a connection of its own, or None if there was no answer."""
    request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    try:
        with connect(port, host, tls) as connection:
            connection.sendall(request.encode("ascii"))
            with connection.makefile("rb") as answer:
                return int(answer.readline().split()[1])
    except (OSError, IndexError, ValueError):
        return None


def wait_until(ready: Callable[[], bool], process: Process, workdir: Path, timeout: float) -> None:
    """Poll until ``ready()``; NotReadyError if the process ends first or after ``timeout`` s."""
    deadline = time.monotonic() + timeout
    while not ready():
        if process.poll() is not None:
            raise NotReadyError(f"exited with {process.returncode}: {last_words(workdir)}")
        if time.monotonic() > deadline:
            raise NotReadyError(f"not ready within {timeout:g} s: {last_words(workdir)}")
        time.sleep(POLL_SECONDS)


def last_words(workdir: Path, limit: int = 300) -> str:
    """The end of what a program wrote to stderr, or else to stdout, as one line."""
    for name in ("stderr", "stdout"):
        with suppress(OSError):
            words = (workdir / name).read_text(errors="replace").split()
            if words:
                return " ".join(words)[-limit:]
    return "it printed nothing"
