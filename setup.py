"""What setup.cfg can't say: the request path can be compiled.

``KPROXY_COMPILE=1 pip install .`` has Cython compile the modules below, as they are: the sources stay
what is read, debugged and tested, and a request costs about a third less of Python's time. It needs a
C compiler; without the variable nothing is compiled and nothing is missing.
"""

from __future__ import annotations

import os
from typing import Any

from setuptools import setup

REQUEST_PATH = [
    "kproxy/routing.py",
    "kproxy/streaming.py",
    *(
        f"kproxy/http/{name}.py"
        for name in (
            "bodies",
            "deadlines",
            "headers",
            "heads",
            "http1",
            "http1_response",
            "request",
        )
    ),
    *(f"kproxy/upstream/{name}.py" for name in ("balancer", "connection", "pool", "proxy")),
    *(
        f"kproxy/wrappers/{name}.py"
        for name in (
            "access_log",
            "base",
            "error_pages",
            "forward_headers",
            "gate",
            "host_router",
            "path_prefix",
            "request_buffer",
            "request_id",
            "request_start",
            "response_buffer",
        )
    ),
]


def compiled() -> dict[str, Any]:
    """Arguments of `setup` that compile the request path, where that is asked for."""
    if os.environ.get("KPROXY_COMPILE") != "1":
        return {}
    try:
        from Cython.Build import cythonize
    except ImportError:  # pip asks first what the build needs, and then builds
        return {"setup_requires": ["cython>=3.1"]}
    directives = {"language_level": 3, "annotation_typing": False, "binding": True}
    return {
        "ext_modules": cythonize(
            REQUEST_PATH, compiler_directives=directives, build_dir="build", quiet=True
        )
    }


setup(**compiled())
