"""deploy.yml → plain, validated values; errors with file, line and column.

`load` is the way in, `kproxy.config.model` what comes out of it, and `kproxy.config.schema` how a
wrapper plug-in declares its options. Nothing here imports Twisted: reading a file stays cheap.
"""

from kproxy.config.loader import load
from kproxy.config.model import Configuration
from kproxy.config.node import ConfigurationError, Problem

__all__ = ["Configuration", "ConfigurationError", "Problem", "load"]
