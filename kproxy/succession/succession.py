"""The end of the old program: it finds out whether the new one comes up, and makes way."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from kproxy.control.deployment import OperationFailed
from kproxy.control.progress import Tell
from kproxy.descriptors import anonymous_file
from kproxy.signals import hold_signals, release_signals
from kproxy.succession.command import CommandLine
from kproxy.succession.legacy import VARIABLE, Legacy, descriptors, leave
from kproxy.threads import InThread, result_of
from kproxy.workers.crew import Crew

REHEARSAL_LIMIT = 60.0
"""Seconds that the new program may take to show that it comes up."""
A_MOMENT = 0.05
"""Seconds from one look whether operations are under way to the next."""
MOST_SAID = 4000
"""Characters of what a program said that did not come up."""

Execute = Callable[[str, list[str], Mapping[str, str]], object]

_log = Logger()


class NotReplaced(OperationFailed):
    """The old program goes on; the text says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the old program goes on: {reason}")


@dataclass(frozen=True, slots=True)
class Estate:
    """What the process has that is handed on, or has to be brought to an end.

    Each is asked, or called, when it comes to that.
    """

    crew: Crew
    busy: Callable[[], bool]
    """Whether operations are under way, beside this one."""
    save: Callable[[], Deferred[None]]
    """Keep the state; fires when it is safe."""
    legacy: Callable[[], Legacy]
    """All but the workers."""
    flush: Callable[[], object]
    """Write the lines of logs that wait to be written."""


class Succession:
    """Lets the program that is installed now take the place of this one.

    @param command: how this one was started.
    @param options: more options of twistd for the next one.
    @param execute: `os.execve`; does not return.
    """

    def __init__(
        self,
        command: CommandLine,
        options: Callable[[], Sequence[str]],
        estate: Estate,
        clock: IReactorTime,
        in_thread: InThread,
        execute: Execute = os.execve,
    ) -> None:
        self._command = command
        self._options = options
        self._estate = estate
        self._clock = clock
        self._in_thread = in_thread
        self._execute = execute
        self._running = False

    def run(self, tell: Tell) -> Deferred[None]:
        """Make way, once nothing else is under way.

        @return: fails with `OperationFailed`, and then everything is as it was. Otherwise nobody is
            left whom it could tell.
        """
        return Deferred.fromCoroutine(self._run(tell))

    async def _run(self, tell: Tell) -> None:
        if self._running:
            raise OperationFailed("the proxy is being restarted already")
        self._running = True
        try:
            await self._idle(tell)
            tell({"event": "restart", "step": "rehearsing"})
            await self._rehearse()
            tell({"event": "restart", "step": "replacing"})
            await self._idle(tell)
            self._replace()
        finally:
            self._running = False

    async def _idle(self, tell: Tell) -> None:
        """Wait until all is quiet. It stays so until the reactor goes on."""
        estate = self._estate
        while True:
            if estate.busy():
                tell({"event": "restart", "step": "waiting"})
                while estate.busy():
                    await deferLater(self._clock, A_MOMENT)
            await estate.save()
            await estate.crew.quiet()
            if not estate.busy():
                return

    async def _rehearse(self) -> None:
        """Let the new program show, in a process of its own, that it comes up.

        @raise NotReplaced: it does not.
        """
        command, options = self._command, self._options()
        legacy = self._estate.legacy()

        def work() -> str:
            return rehearse(command, options, legacy)

        why_not = await result_of(work, self._in_thread)
        if why_not:
            raise NotReplaced(f"the new one does not come up: {why_not}")

    def _replace(self) -> None:
        """Run the new program in this process.

        @raise NotReplaced: it can't be run.
        """
        estate, command = self._estate, self._command
        legacy = replace(estate.legacy(), workers=tuple(estate.crew.guests()))
        kept = descriptors(legacy)
        number = leave(legacy)
        _log.info("the program that is installed now takes over in this process")
        estate.flush()
        folder = os.getcwd()
        try:
            for descriptor in (number, *kept):
                os.set_inheritable(descriptor, True)
            os.chdir(command.folder)
            hold_signals()
            argv = command.again(self._options())
            self._execute(argv[0], argv, {**os.environ, VARIABLE: str(number)})
        except OSError as error:
            release_signals()
            os.chdir(folder)
            for descriptor in kept:
                os.set_inheritable(descriptor, False)
            raise NotReplaced(f"the new one can't be run: {error}") from error
        finally:
            os.close(number)


def rehearse(command: CommandLine, options: Sequence[str], legacy: Legacy) -> str:
    """Try whether the program that is installed now comes up; blocks until that is known.

    @param legacy: what it will find.
    @return: why it does not; empty if it does.
    """
    report = anonymous_file("kproxy-rehearsal")
    legacy = replace(legacy, workers=(), report=report, daemon=False)
    number = leave(legacy)
    try:
        done = subprocess.run(
            # Log files are this program's to write.
            command.again([*options, "--logfile=-"]),
            cwd=command.folder,
            env={**os.environ, VARIABLE: str(number)},
            pass_fds=[number, *descriptors(legacy)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=REHEARSAL_LIMIT,
            check=False,
        )
        os.lseek(report, 0, os.SEEK_SET)
        said = os.read(report, 16 * MOST_SAID)
    except subprocess.TimeoutExpired:
        return f"it is not ready after {REHEARSAL_LIMIT:g} s"
    except OSError as error:
        return str(error)
    finally:
        os.close(report)
        os.close(number)
    if said:
        return str(json.loads(said)["error"])
    text = (done.stderr or done.stdout).decode("utf-8", "replace").strip()
    return text[-MOST_SAID:] or f"it ended with status {done.returncode}"


def tell_how_it_went(legacy: Legacy, error: str) -> None:
    """The end of a rehearsal.

    @param error: why the program does not come up; empty if it does.
    """
    os.write(legacy.report, json.dumps({"error": error[:MOST_SAID]}).encode("ascii"))
