"""What setup.cfg can't say: `pip install` compiles the request path where it can.

Cython makes C of the modules below, as they are; the ``.pxd`` files beside some of them say which
types their classes have then. The sources stay what is read, debugged and tested, and work without:
where there is no Cython or no C compiler, nothing is compiled and nothing is missing but speed (about
half of a small request's time).

KPROXY_COMPILE=0 does not try; KPROXY_COMPILE=1 fails where it can't be done. An editable installation
is never compiled, lest an edited module have an older twin that wins.
"""

from __future__ import annotations

import os
import platform
import sys
from typing import Any

from setuptools import setup
from setuptools.command.build_ext import build_ext

REQUEST_PATH = [
    "kproxy/lines.py",
    "kproxy/metrics/counts.py",
    "kproxy/routing.py",
    "kproxy/streaming.py",
    *(
        f"kproxy/http/{name}.py"
        for name in (
            "bodies",
            "chunked",
            "deadlines",
            "headers",
            "heads",
            "http1",
            "http1_response",
            "lifecycle",
            "plain_refusal",
            "request",
        )
    ),
    *(f"kproxy/upstream/{name}.py" for name in ("balancer", "connection", "pool", "proxy")),
    *(
        f"kproxy/wrappers/{name}.py"
        for name in (
            "access_log",
            "acme_challenge",
            "base",
            "error_pages",
            "forward_headers",
            "gate",
            "host_router",
            "metrics",
            "path_prefix",
            "request_buffer",
            "request_id",
            "refuse_tls",
            "request_start",
            "response_buffer",
        )
    ),
]

DIRECTIVES = {"language_level": 3, "annotation_typing": False, "nonecheck": True}
WANTED = os.environ.get("KPROXY_COMPILE", "")
BUILDS = {"bdist_wheel", "build", "build_ext", "install"}
"""The commands of setuptools that need more than to know what there is; not `editable_wheel`."""


class BuildAllOrNone(build_ext):
    """Compiles all modules or none: they know each other's structures."""

    def initialize_options(self) -> None:
        super().initialize_options()
        self.parallel = os.cpu_count()

    def build_extensions(self) -> None:
        try:
            super().build_extensions()
        except Exception as error:  # of any kind: what matters is that it works without
            if WANTED == "1":
                raise
            do_without(error)
            for extension in self.extensions:
                path = self.get_ext_fullpath(extension.name)
                if os.path.exists(path):
                    os.remove(path)
            self.extensions = []


def do_without(reason: object) -> None:
    sys.stderr.write(f"kproxy is not compiled, which works, but slower: {reason}\n")


def compiled() -> dict[str, Any]:
    """Arguments of `setup` that compile the request path, where that can be done."""
    if WANTED == "0" or not BUILDS.intersection(sys.argv):
        return {}
    if platform.python_implementation() != "CPython":
        return {}
    try:
        from Cython.Build import cythonize

        modules = cythonize(
            REQUEST_PATH, compiler_directives=DIRECTIVES, build_dir="build", quiet=True
        )
    except Exception as error:
        if WANTED == "1":
            raise
        do_without(error)
        return {}
    for module in modules:
        module.extra_compile_args = ["-O2", "-g0"]
    return {"ext_modules": modules, "cmdclass": {"build_ext": BuildAllOrNone}}


setup(**compiled())
