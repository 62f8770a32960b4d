"""Where the proxy and its command meet, and where state is kept (docs/reference.md)."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path


def default_socket(environ: Mapping[str, str]) -> Path:
    """The admin socket, if nobody says where it is."""
    folder = environ.get("XDG_RUNTIME_DIR")
    usable = folder and Path(folder).is_dir()
    return Path(folder if folder and usable else tempfile.gettempdir()) / "kproxy.sock"


def default_state_dir(environ: Mapping[str, str], root: bool | None = None) -> Path:
    """The folder of the state, if nobody says where it is."""
    if os.geteuid() == 0 if root is None else root:
        return Path("/var/lib/kproxy")
    state = environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "kproxy"
