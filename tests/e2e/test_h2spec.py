"""The conformance tests of HTTP/2 that servers are usually measured by, on a real proxy."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable

import pytest

from tests.e2e.support.https import https_proxy
from tests.e2e.support.stage import Stage
from tests.e2e.support.targets import says

GROUPS = ["generic", "http2", "hpack"]


@pytest.mark.parametrize("group", GROUPS)
def test_every_case_of_h2spec_passes(
    stage: Stage, require_built: Callable[[str, int], str], group: str
) -> None:
    command = require_built("h2spec", 24)
    # Some cases need a response of more than a few bytes to be cut by a window.
    target = stage.target(says("x" * 1000))
    proxy = https_proxy(
        stage, {"app": {"hosts": [target.address], "proxy": {"ssl": True, "host": "localhost"}}}
    )
    done = subprocess.run(
        [command, "-t", "-k", "-h", "localhost", "-p", str(proxy.https_port), "-o", "5", group],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    found = re.search(r"(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed", done.stdout)
    assert found is not None, done.stdout + done.stderr
    tests, passed, skipped, failed = map(int, found.groups())
    assert tests == passed > 0, done.stdout
    assert (skipped, failed, done.returncode) == (0, 0, 0), done.stdout
