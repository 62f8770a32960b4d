"""Stages for the end-to-end tests: targets, and the real proxy in front of them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.e2e.support.proxy import Proxy, write_deploy
from tests.e2e.support.targets import Script, Target, echo


class Stage:
    """Where a test, or all tests of a module, set up what they need; all of it ends with them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.targets: list[Target] = []
        self._stack = ExitStack()

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()
        for target in self.targets:
            assert not target.errors, target.errors

    def target(self, script: Script = echo, **options: Any) -> Target:
        target = Target(script, **options)
        self._stack.callback(target.close)
        self.targets.append(target)
        return target

    def deploy(self, roles: Mapping[str, Mapping[str, Any]], **top: Any) -> Path:
        """Write deploy.yml, as `write_deploy` does."""
        return write_deploy(self.folder / "deploy.yml", roles, **top)

    def proxy(self, *configs: Path, healthy: tuple[str, ...] = (), **options: Any) -> Proxy:
        """Start kproxy, and wait until it listens.

        @param healthy: ``HOST/PREFIX`` of the services to wait for as well.
        """
        proxy = self.start(*configs, **options)
        proxy.wait_until_healthy(*healthy)
        return proxy

    def start(self, *configs: Path, **options: Any) -> Proxy:
        """Start kproxy."""
        proxy = Proxy(configs, self.folder, **options)
        self._stack.callback(proxy.close)
        return proxy

    def app(self, *targets: Target, **proxy: Any) -> Proxy:
        """One service, app.example, with these targets and options, and the proxy before it."""
        hosts = [target.address for target in targets]
        config = self.deploy({"app": {"hosts": hosts, "proxy": proxy}})
        return self.proxy(config, healthy=("app.example" + proxy.get("path_prefix", ""),))
