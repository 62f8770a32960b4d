"""A deploy.yml in a temporary folder, and what it means."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from kproxy.config import Configuration, ConfigurationError, load
from kproxy.config.model import Service


class Files:
    """Writes files into a folder and loads them; `deploy.yml` unless another name is given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, text: str, name: str = "deploy.yml") -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    def load(
        self, *texts: str, environ: Mapping[str, str] | None = None, **more: Any
    ) -> Configuration:
        """Load one file for each text: deploy.yml, deploy1.yml, …; no text: deploy.yml as it is."""
        paths = [
            self.write(text, f"deploy{index or ''}.yml") for index, text in enumerate(texts)
        ] or [self.folder / "deploy.yml"]
        arguments: dict[str, Any] = {"destination": None, "server": None, "wrappers": {}, **more}
        return load(paths, environ=environ or {}, **arguments)

    def service(self, text: str, **more: Any) -> Service:
        """The one service of a file."""
        (service,) = self.load(text, **more).services
        return service

    def proxy(self, text: str, **more: Any) -> Service:
        """The service that a proxy section, given with its indentation removed, makes."""
        return self.service(with_proxy(text), **more)

    def problems(self, *texts: str, **more: Any) -> list[str]:
        """The lines that an operator reads, without the folder."""
        with pytest.raises(ConfigurationError) as caught:
            self.load(*texts, **more)
        lines = str(caught.value).replace(f"{self.folder}/", "").splitlines()
        assert len(lines) == len(caught.value.problems)
        return lines


def with_proxy(text: str) -> str:
    """A whole file around a proxy section."""
    section = textwrap.indent(textwrap.dedent(text), "  ")
    return f"service: app\nservers: [10.0.0.1]\nproxy:\n{section}"
