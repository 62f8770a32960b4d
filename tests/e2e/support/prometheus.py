"""A real Prometheus (Debian's `prometheus`) that reads a proxy's metrics."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from tests.support.ports import free_port

CONFIG = """\
global:
  scrape_interval: 1s
scrape_configs:
  - job_name: kproxy
    static_configs:
      - targets: ["127.0.0.1:{port}"]
"""


class Prometheus:
    """One that scrapes a port once a second."""

    def __init__(self, folder: Path, port: int) -> None:
        program = shutil.which("prometheus")
        if program is None:
            assert not os.environ.get("CI"), "prometheus is not installed"
            pytest.skip("prometheus is not installed")
        self._own = free_port("127.0.0.1")
        config = folder / "prometheus.yml"
        config.write_text(CONFIG.format(port=port))
        with (folder / "prometheus.log").open("wb") as log:
            self.process = subprocess.Popen(
                [
                    program,
                    f"--config.file={config}",
                    f"--storage.tsdb.path={folder / 'prometheus'}",
                    f"--web.listen-address=127.0.0.1:{self._own}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self) -> Prometheus:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def ask(self, query: str) -> float | None:
        """The one value that a query gives; None: it gives none yet, or nobody answers."""
        url = f"http://127.0.0.1:{self._own}/api/v1/query?query={urllib.parse.quote(query)}"
        try:
            with urllib.request.urlopen(url, timeout=20) as response:
                (found,) = json.load(response)["data"]["result"] or (None,)
        except (urllib.error.URLError, ConnectionError):
            return None
        return None if found is None else float(found["value"][1])
