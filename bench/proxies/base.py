"""What every proxy of the comparison has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from bench.cases import Case
from bench.processes import Process, find_program


class Proxy(ABC):
    """One proxy: how to find it, and how to start it as one process or thread with a JSON log."""

    name: str
    program: ClassVar[str]
    """What has to be on PATH."""
    serves_tls: ClassVar[bool] = False
    """Whether `start` heeds `Case.tls`."""

    def available(self) -> str | None:
        """None if it can be started here, else why not."""
        return None if find_program(self.program) else f"{self.program} isn't on PATH"

    @abstractmethod
    def version(self) -> str:
        """What it calls itself."""

    def cannot(self, case: Case) -> str | None:
        """None if it can do what the case asks, else why not."""
        return None if self.serves_tls or not case.tls else "the benchmark has no TLS set up for it"

    @abstractmethod
    def start(self, origin_port: int, listen_port: int, workdir: Path, case: Case) -> Process:
        """Start it on 127.0.0.1, in front of the origin, with all that it writes in ``workdir``."""

    @property
    def path(self) -> str:
        """The path of its program; FileNotFoundError if there is none."""
        found = find_program(self.program)
        if found is None:
            raise FileNotFoundError(self.program)
        return found
