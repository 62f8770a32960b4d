"""A real browser: Debian's Chromium, headless, with a home of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

_PATIENCE = 60.0


class Browser:
    """Somebody at a desk, who opens one page at a time."""

    def __init__(
        self, folder: Path, chromium: str, certutil: str, ports: Mapping[int, int], *hosts: str
    ) -> None:
        """
        @param ports: the usual ports -> those of 127.0.0.1 where hosts have them.
        @param hosts: names that lead to 127.0.0.1; no other name leads anywhere.
        """
        self.home = folder / "home"
        # Where Chromium on Linux looks for CAs that its user trusts.
        self._trusted = self.home / ".pki" / "nssdb"
        self._trusted.mkdir(parents=True)
        self._certutil = certutil
        rules = [f"MAP {host}:{a} 127.0.0.1:{b}" for host in hosts for a, b in ports.items()]
        rules.append("MAP * ~NOTFOUND")
        self._command = [
            *(chromium, "--headless", "--disable-gpu", "--disable-dev-shm-usage"),
            *("--no-first-run", "--disable-background-networking", "--no-proxy-server"),
            f"--host-resolver-rules={','.join(rules)}",
        ]
        if os.geteuid() == 0:
            self._command.append("--no-sandbox")  # it can't have one then
        self._manage("-N", "--empty-password")

    def trust(self, root: Path) -> None:
        """Take a CA for one (PEM)."""
        self._manage("-A", "-n", root.stem, "-t", "C,,", "-i", str(root))

    def open(self, url: str) -> str:
        """Load a page with all that belongs to it; its HTML after its scripts have run."""
        done = subprocess.run(
            [*self._command, f"--user-data-dir={self.home / 'profile'}", "--dump-dom", url],
            env={**os.environ, "HOME": str(self.home)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _manage(self, *arguments: str) -> None:
        command = [self._certutil, "-d", f"sql:{self._trusted}", *arguments]
        subprocess.run(command, stdin=subprocess.DEVNULL, timeout=_PATIENCE, check=True)
