"""The running proxy: listens, serves, reloads, drains. Assembles control plane and data plane."""

from __future__ import annotations

import gc
import os
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred, succeed
from twisted.logger import ILogObserver, Logger
from twisted.python.components import Componentized

from kproxy import __version__
from kproxy.config import Configuration, ConfigurationError
from kproxy.config.model import Acme, Run
from kproxy.control.admin import Admin
from kproxy.control.adminsite import AdminSite
from kproxy.control.adminsocket import SocketInUse, listen, make_way
from kproxy.control.automatic import Automatic
from kproxy.control.certificates import Certificates
from kproxy.control.controller import Controller
from kproxy.control.progress import Tell, untold
from kproxy.control.state import State, StateDirInUse, StateFile
from kproxy.dataplane import DataPlane
from kproxy.front import Front, connection_limit
from kproxy.interfaces import IWrapperPlugin
from kproxy.listening import Binder, HTTPSPort
from kproxy.metrics.catalog import Measured
from kproxy.metrics.counts import Counts
from kproxy.metrics.process import measure_process
from kproxy.metrics.totals import counters, merged
from kproxy.network import network_of
from kproxy.output import Output
from kproxy.paths import default_socket, default_state_dir
from kproxy.signals import end_on_signals, handle_signals
from kproxy.succession.command import CommandLine, options_again
from kproxy.succession.legacy import Legacy
from kproxy.succession.restarts import Restarts
from kproxy.succession.succession import Estate, Succession
from kproxy.threads import threads_of
from kproxy.upstream.probe import Prober
from kproxy.workers.assembly import assembled_workers
from kproxy.workers.count import wanted
from kproxy.workers.measuring import measure_crew
from kproxy.workers.pool import Workers

if TYPE_CHECKING:
    from kproxy.metrics.endpoint import MetricsPort

_log = Logger()


def worker_count(options: Mapping[str, Any], configuration: Configuration) -> int:
    """How many processes serve; 0: this one does."""
    said = options["workers"]
    if said is None:
        said = configuration.workers
    return wanted("auto" if said is None else said)


class ProxyService(Service):
    """One proxy, as an application of twistd.

    @param options: the command line, which wins over the configuration files.
    @param read: reads the configuration files again.
    @raise CannotListen: a port can't be had.
    @raise kproxy.tree.WrapperFailed: a wrapper does not take its options.
    """

    def __init__(
        self,
        options: Mapping[str, Any],
        configuration: Configuration,
        read: Callable[[], Configuration],
        plugins: Mapping[str, IWrapperPlugin],
        twistd: Mapping[str, Any],
        command: CommandLine | None = None,
        legacy: Legacy | None = None,
    ) -> None:
        """@param command: how this process was started, if that can be done again.
        @param legacy: what another program has left that ran in this process before."""
        from twisted.internet import reactor

        self._legacy = legacy = legacy or Legacy()
        self._daemon = legacy.daemon or not twistd.get("nodaemon", True)
        twistd = {**twistd, "nodaemon": not self._daemon}
        self._reactor: Any = reactor
        self._configuration = configuration
        self._read = read
        self._network = network_of(reactor)
        self._in_thread = in_thread = threads_of(reactor)
        self._output = Output(configuration, twistd, self._reactor, in_thread)
        run: Run = configuration.run
        asked = options["metrics-port"]
        metrics_port = (run.metrics_port or 0) if asked is None else asked
        port = run.http_port if options["http-port"] is None else options["http-port"]
        addresses = tuple(options["bind"]) or run.bind_ips
        end_on_signals(reactor)
        # That for HTTP comes last: whoever finds it there may count on the others.
        self._binder = binder = Binder(legacy.ports)
        self._https = HTTPSPort(
            addresses, options["https-port"], configuration, self._reactor, binder.bind
        )
        self._metrics = self._metrics_on(addresses, metrics_port) if metrics_port else None
        self._sockets = binder.bind(addresses, port)
        binder.close_unwanted()
        self._tls_sockets: list[socket.socket] = []
        self._workers: Workers | None = None
        self._front: Front | Workers
        self._data_plane: DataPlane | Workers
        most, count = connection_limit(), worker_count(options, configuration)
        own = DataPlane(
            self._network,
            self._reactor,
            in_thread,
            plugins,
            self._output.write,
            counts=Counts() if metrics_port and not count else None,
        )
        if count:
            self._workers = self._front = self._data_plane = assembled_workers(
                count,
                own,
                self._reactor,
                self._sockets,
                self._output.access_log,
                self._output.write,
                metrics=bool(metrics_port),
            )
            self._workers.inherit(
                legacy.workers, legacy.counted, legacy.measured, bytes.fromhex(legacy.secret)
            )
        else:
            self._front = Front(own, self._network, self._reactor, most, self._sockets)
            self._data_plane = own
        debug = bool(options["debug"] or configuration.run.debug)
        self._state: StateFile | None = None
        self._state_dir = _absolute(options["state-dir"] or default_state_dir(os.environ))
        certificates = Certificates(self._automatic, self._state_dir / "acme")
        self._data_plane.certificate_wanted = certificates.wanted
        self._controller = Controller(
            self._data_plane,
            self._reactor,
            Prober(self._network, self._reactor).ask,
            _log.info if debug else None,
            self,
            certificates,
            in_thread,
            os.environ,
            elapsed=time.perf_counter,
        )
        self._controller.changes.why_no_https = self._https.why_not
        self._admin_path = _absolute(options["socket"] or default_socket(os.environ))
        if legacy.commands < 0:
            make_way(self._admin_path)
        self._admin_port: Any = None
        self._restarts = Restarts(
            None if self._workers is None else self._workers.crew,
            self._succession_by(command, twistd),
            legacy.generation,
        )
        self._admin = AdminSite(
            Admin(
                self._controller,
                self.reload_now,
                self._data_plane.explain,
                self._restarts.restart,
                self._restarts.restarted,
                self._restarts.describe,
            )
        )

    def _metrics_on(self, addresses: tuple[str, ...], port: int) -> MetricsPort:
        """What Prometheus asks. Its library is only there where that is wanted.

        @raise CannotListen: the port can't be had.
        """
        from kproxy.metrics.endpoint import MetricsPort

        sockets = self._binder.bind(addresses, port)
        return MetricsPort(sockets, self._measure, self._reactor, self._in_thread)

    def _measure(self) -> Deferred[Measured]:
        """What metrics show: of the data plane, of the control plane, and of this process."""

        def told(measured: Measured) -> Measured:
            return merged((measured, self._measured_here(), measure_process("control")))

        measured: Deferred[Any] = maybeDeferred(self._data_plane.measure)
        return measured.addCallback(told)

    def _measured_here(self) -> Measured:
        """What this process knows by itself."""
        crew = None if self._workers is None else self._workers.crew
        return merged((self._controller.measure(), measure_crew(crew)))

    def setServiceParent(self, parent: Any) -> None:
        """Become a part of twistd's application, which hears here who observes its events."""
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]
        if self._output.events is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self._output.events)

    def startService(self) -> None:
        """Accept connections, and begin to check the targets."""
        super().startService()  # type: ignore[no-untyped-call]
        configuration = self._configuration
        self._controller.boot(
            configuration.services, self._restored(), configuration.acme, self._legacy.healthy
        )
        if not self._controller.services():
            _log.warn(
                "there is no service: every request gets a 404, until kproxy deploy or a deploy.yml "
                "(--config) says what to serve"
            )
        for sock in self._sockets:
            address, port = sock.getsockname()[:2]
            _log.info("listening on {address} port {port}", address=address, port=port)
        self._https.start(self._listen_tls)
        self._front.start()
        self._warn_of_missing_https()
        if self._metrics is not None:
            self._metrics.start(self._network)
        self._serve_commands()
        self._reactor.callWhenRunning(
            handle_signals,
            self._reactor,
            self.reload,
            self._output.reopen,
            self._restarts.by_signal,
        )
        # What is there now stays: the collector need not look at it again and again.
        gc.collect()
        gc.freeze()

    def _listen_tls(self, sock: socket.socket) -> None:
        address, port = sock.getsockname()[:2]
        _log.info("listening on {address} port {port} (HTTPS)", address=address, port=port)
        self._tls_sockets.append(sock)
        self._front.listen_tls(sock)

    def _warn_of_missing_https(self) -> None:
        names = ", ".join(s.name for s in self._controller.services() if s.ssl)
        reason = self._https.why_not() if names else self._https.missing
        if reason:
            who = f"{names} can't be reached by HTTPS" if names else "there is no HTTPS"
            _log.warn("{message}", message=f"{who}: {reason}")

    def _automatic(
        self,
        acme: Acme,
        folder: Path,
        changed: Callable[[], object],
        on_demand_url: Callable[[str], str | None],
    ) -> Automatic:
        """What has certificates of a CA: made when there is a service that needs one, since a third
        of a second is a lot for those that don't."""
        from kproxy.tls.acme.automatic import make_automatic

        return make_automatic(acme, folder, self._reactor, self._in_thread, changed, on_demand_url)

    def _restored(self) -> State:
        """What the last run left. A proxy that can't keep its state works, and says so."""
        try:
            self._state = StateFile(self._state_dir, self._in_thread)
        except (OSError, StateDirInUse) as error:
            _log.error(
                "deployments will be forgotten with this process: {folder} can't be used: {error}",
                folder=self._state_dir,
                error=error,
            )
            return State()
        return self._state.load()

    def save(self, state: State) -> Deferred[None]:
        """Keep the state; part of `kproxy.control.state.Store`."""
        return succeed(None) if self._state is None else self._state.save(state)

    def _serve_commands(self) -> None:
        """Answer the ``kproxy`` command from now on.

        The socket is made here, since twistd may have changed process and user by now.
        """
        try:
            self._admin_port = listen(
                self._reactor, self._admin_path, self._admin, self._legacy.commands
            )
        except SocketInUse as error:
            raise SystemExit(f"Error: {error}") from None
        _log.info("commands are taken on {path}", path=self._admin_path)

    def stopService(self) -> Deferred[None]:
        """Accept no more, and let requests finish.

        @return: fires when the last has, or when the longest ``drain_timeout`` is over.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        timeout = self._drain_timeout()
        remembered = self._controller.close()
        self._https.close()
        drained = self._front.stop(timeout)
        for sock in (*self._sockets, *self._tls_sockets):
            sock.close()

        def stopped(_: object) -> Deferred[None]:
            if self._metrics is not None:
                self._metrics.stop()
            self._output.close()
            if self._state is not None:
                self._state.close()
            if self._legacy.pidfile:  # of which twistd does not know any more
                with suppress(OSError):
                    Path(self._legacy.pidfile).unlink()
            return self._admin.end(self._reactor)

        done: Deferred[None] = Deferred()
        unheard = maybeDeferred(self._admin_port.stopListening)
        DeferredList([drained, unheard, remembered]).addCallback(stopped).addBoth(
            lambda _: done.callback(None)
        )
        return done

    def _drain_timeout(self) -> float:
        """Seconds that requests have to finish when this process, or a worker, ends."""
        return max((s.drain_timeout for s in self._controller.services()), default=30.0)

    def _succession_by(
        self, command: CommandLine | None, twistd: Mapping[str, Any]
    ) -> Succession | None:
        """How this program is replaced by another in the same process; None: it can't be."""
        if command is None or self._workers is None or twistd.get("chroot"):
            return None
        estate = Estate(
            self._workers.crew,
            self._busy,
            self._controller.save,
            lambda: self._left_behind(twistd),
            self._output.flush,
        )
        options = partial(options_again, twistd, daemon=self._daemon)
        return Succession(command, options, estate, self._reactor, self._in_thread)

    def _busy(self) -> bool:
        """Whether any operation is under way that somebody waits for, beside the restart itself."""
        asked = self._metrics is not None and self._metrics.busy()
        return asked or self._controller.busy() or len(self._admin.answers) > 1

    def _left_behind(self, twistd: Mapping[str, Any]) -> Legacy:
        """What another program finds, but for the workers."""
        assert self._workers is not None
        return Legacy(
            generation=self._legacy.generation + 1,
            version=__version__,
            ports=self._binder.ports(),
            commands=self._admin_port.fileno(),
            healthy=self._controller.healthy(),
            counted=merged((self._workers.counted(), counters(self._measured_here()))),
            measured=self._workers.last_measured(),
            secret=self._workers.secret.hex(),
            daemon=self._daemon,
            pidfile=self._legacy.pidfile or twistd.get("pidfile") or "",
        )

    def reload(self) -> Deferred[list[str]] | None:
        """Read the configuration again, and deploy the difference; a bad file changes nothing.

        @return: fires when all of it is served or has failed; None if the files are bad.
        """
        try:
            return self.reload_now(untold)
        except ConfigurationError as error:
            _log.error("the configuration was not reloaded")
            for problem in str(error).splitlines():
                _log.error("{problem}", problem=problem)
            return None

    def reload_now(self, tell: Tell) -> Deferred[list[str]]:
        """The same, for somebody who waits.

        @return: fires with what has failed, when all the rest is served.
        @raise ConfigurationError: the files are bad.
        """
        configuration = self._read()
        when = "the next start" if self._workers is None else "kproxy restart --all"
        for name in ("run", "access_log", "workers"):
            if getattr(configuration, name) != getattr(self._configuration, name):
                _log.warn(
                    "{name} has changed, which takes effect with {when}", name=name, when=when
                )
        self._configuration = configuration
        _log.info("the configuration was read again")
        return self._controller.reload(configuration, tell)


def _absolute(path: str | Path) -> Path:
    """A path that is still right when twistd has changed the folder it works in."""
    return Path(path).absolute()
