"""Starts two small applications behind kproxy, shows some requests, and stays up until Ctrl-C.

`make demo` runs this. `python examples/demo.py --once` ends after the first requests.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
CONFIG = HERE / "deploy.yml"
PATIENCE = 30.0  # seconds for everything to come up
REQUESTS = ["/", "/hello?name=you", "/api/users/7?fields=name"]

# Straight to the address: a proxy that the environment names is not asked.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class DemoError(Exception):
    """The demo can't go on; the message says why."""


@dataclass(frozen=True)
class Ports:
    proxy: int
    web: int
    api: int


def free_port(wanted: int, taken: set[int]) -> int:
    """The wanted port, or any free one when another program (or a port of ours) has it."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            found: int = probe.getsockname()[1]
            if found not in taken:
                taken.add(found)
                return found
    raise DemoError("There is no free port on 127.0.0.1.")


class Proxy:
    """kproxy as a child process, and the lines that it writes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.said: list[str] = []
        self.requests: queue.SimpleQueue[dict[str, object]] = queue.SimpleQueue()
        self.echo = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line)
            if self.echo:
                print(line, end="", flush=True)
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # twistd's own log, which stands on the same stdout
            if isinstance(entry, dict) and entry.get("msg") == "Request":
                self.requests.put(entry)

    def log_entry(self, request_id: str) -> dict[str, object]:
        """The access log's entry for one request; it comes shortly after the answer."""
        deadline = time.monotonic() + 5
        while (left := deadline - time.monotonic()) > 0:
            try:
                entry = self.requests.get(timeout=left)
            except queue.Empty:
                break
            if entry.get("request_id") == request_id:
                return entry
        raise DemoError("The request is missing from kproxy's access log.")

    def check(self) -> None:
        if self.process.poll() is not None:
            self._reader.join(timeout=1)
            raise DemoError(
                f"kproxy could not start (status {self.process.returncode}). It said:\n\n"
                + "".join(self.said)
            )


def start(stack: ExitStack, command: list[str], **options: object) -> subprocess.Popen[str]:
    """Start a child that ends with the demo, the last one first.

    It gets a session of its own: Ctrl-C reaches only the demo, which then ends them in order.
    """
    process: subprocess.Popen[str] = subprocess.Popen(  # type: ignore[call-overload]
        command, start_new_session=True, stdin=subprocess.DEVNULL, text=True, **options
    )
    stack.callback(stop, process)
    return process


def stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def start_proxy(stack: ExitStack, ports: Ports) -> Proxy:
    twistd = shutil.which("twistd", path=str(Path(sys.executable).parent)) or shutil.which("twistd")
    if twistd is None:
        raise DemoError(
            "twistd is missing: install kproxy first (pip install .), or run `make demo`."
        )
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="kproxy-demo-"))
    command = [twistd, "-n", "--pidfile=", "kproxy", "--config", str(CONFIG)]
    environment = {
        **os.environ,
        "WEB_PORT": str(ports.web),
        "API_PORT": str(ports.api),
        # The demo leaves nothing behind, and does not meet another kproxy of this machine.
        "KPROXY_STATE_DIR": folder,
        "KPROXY_SOCKET": f"{folder}/kproxy.sock",
    }
    process = start(
        stack,
        [*command, "--bind=127.0.0.1", f"--http-port={ports.proxy}", "--https-port=0"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    return Proxy(process)


def fetch(port: int, path: str, request_id: str = "demo-start") -> tuple[int, str]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        headers={"X-Request-ID": request_id, "User-Agent": "kproxy-demo"},
    )
    try:
        with OPENER.open(request, timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(errors="replace")


def wait_until_up(proxy: Proxy, port: int) -> None:
    deadline = time.monotonic() + PATIENCE
    for path in ("/up", "/api/up"):
        answer = "nothing at all"
        while True:
            proxy.check()
            try:
                status, _ = fetch(port, path)
            except OSError as error:  # not listening yet
                answer = str(error)
            else:
                if status == 200:
                    break
                answer = f"status {status}"
            if time.monotonic() > deadline:
                raise DemoError(
                    f"{path} does not answer through kproxy: {answer}. kproxy said:\n\n"
                    + "".join(proxy.said)
                )
            time.sleep(0.1)


def show_requests(proxy: Proxy, port: int) -> None:
    for number, path in enumerate(REQUESTS):
        request_id = f"demo-{number}"
        print(f"\n$ curl 'http://127.0.0.1:{port}{path}'", flush=True)
        status, text = fetch(port, path, request_id)
        print("\n".join(f"    {line}" for line in text.strip().splitlines()))
        if status != 200:
            raise DemoError(f"That should have been answered with 200, not {status}.")
        print("  and in the access log:")
        print(f"    {json.dumps(proxy.log_entry(request_id))}", flush=True)


def say_where(ports: Ports) -> None:
    base = f"http://127.0.0.1:{ports.proxy}"
    print(f"kproxy is up on {base}, configured by examples/deploy.yml:\n")
    print(f"  {base}/     goes to examples/apps/web.py on port {ports.web}")
    print(f"  {base}/api  goes to examples/apps/api.py on port {ports.api}")


def say_what_next(ports: Ports) -> None:
    base = f"http://127.0.0.1:{ports.proxy}"
    print(
        f"""
Now you, from another terminal; the access log goes on below:

  curl {base}/
  curl '{base}/api/anything?x=1'
  curl --data-binary @README.md {base}/upload

Then read examples/deploy.yml, and docs/tutorial.md for applications of your own.
Ctrl-C ends the demo.
""",
        flush=True,
    )


def run(wanted: Ports, once: bool) -> None:
    taken: set[int] = set()
    ports = Ports(
        *(free_port(port, taken) for port in (wanted.proxy, wanted.web, wanted.api)),
    )
    with ExitStack() as stack:
        for name, port in (("web", ports.web), ("api", ports.api)):
            start(stack, [sys.executable, str(HERE / "apps" / f"{name}.py"), str(port)])
        proxy = start_proxy(stack, ports)
        wait_until_up(proxy, ports.proxy)
        say_where(ports)
        show_requests(proxy, ports.proxy)
        if once:
            return
        say_what_next(ports)
        proxy.echo = True
        try:
            status = proxy.process.wait()
        finally:
            proxy.echo = False  # how it shuts down is of no interest
        raise DemoError(f"kproxy has ended, with status {status}.")


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def main() -> int:
    parser = argparse.ArgumentParser(description="Two small applications behind kproxy.")
    parser.add_argument("--port", type=int, default=8080, help="kproxy's (default: 8080)")
    parser.add_argument("--web-port", type=int, default=3001, help="default: 3001")
    parser.add_argument("--api-port", type=int, default=3002, help="default: 3002")
    parser.add_argument("--once", action="store_true", help="end after the first requests")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, interrupt)
    print("Starting two applications and kproxy; a port that is taken is replaced by a free one.")
    try:
        run(Ports(options.port, options.web_port, options.api_port), options.once)
    except DemoError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nThe demo has ended, and so have its processes.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
