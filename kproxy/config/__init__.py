"""deploy.yml → plain, validated values; errors with file, line and column.

`load` is the way in, `kproxy.config.model` what comes out of it, and `kproxy.config.schema` how a
wrapper plug-in declares its options. Nothing here imports Twisted: reading a file stays cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kproxy.config.model import Configuration

if TYPE_CHECKING:
    from kproxy.config.loader import load
    from kproxy.config.node import ConfigurationError, Problem

__all__ = ["Configuration", "ConfigurationError", "Problem", "load"]


def __getattr__(name: str) -> Any:
    """What it takes to read files: workers only know the values, and start sooner without."""
    if name == "load":
        from kproxy.config import loader as module
    elif name in ("ConfigurationError", "Problem"):
        from kproxy.config import node as module  # type: ignore[no-redef]
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(module, name)
