"""The running proxy: listens, serves, reloads, drains. Assembles control plane and data plane."""

from __future__ import annotations

import atexit
import gc
import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred, succeed
from twisted.logger import ILogObserver, Logger
from twisted.python.components import Componentized
from twisted.python.logfile import LogFile

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
from kproxy.interfaces import IWrapperPlugin
from kproxy.lines import LineWriter
from kproxy.listening import HTTPSPort, bind_all
from kproxy.logs import EventLog, takes_events
from kproxy.metrics.catalog import Measured
from kproxy.metrics.counts import Counts
from kproxy.metrics.process import measure_process
from kproxy.metrics.totals import Totals, merged
from kproxy.network import Listener, network_of
from kproxy.paths import default_socket, default_state_dir
from kproxy.threads import threads_of
from kproxy.upstream.probe import Prober

if TYPE_CHECKING:
    from kproxy.metrics.endpoint import MetricsPort

RESERVED_DESCRIPTORS = 64
"""For logs, temporary files, health checks and whatever libraries open."""

_log = Logger()


def access_log_path(configuration: Configuration, twistd: Mapping[str, Any]) -> Path | None:
    """Where the access log goes; None: to standard output, which a daemon does not have."""
    if configuration.access_log is not None or twistd.get("nodaemon", True):
        return configuration.access_log
    logfile = twistd.get("logfile")
    if logfile and logfile != "-":
        return Path(logfile).absolute().parent / "access.log"
    return Path(twistd.get("rundir") or ".").absolute() / "access.log"


def connection_limit() -> int:
    """How many clients this process can serve: each may need two descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return max(16, (hard - RESERVED_DESCRIPTORS) // 2)


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
    ) -> None:
        from twisted.internet import reactor

        self._reactor: Any = reactor
        self._configuration = configuration
        self._read = read
        self._network = network_of(reactor)
        self._in_thread = in_thread = threads_of(reactor)
        access_log = access_log_path(configuration, twistd)
        self._lines = LineWriter(self._reactor, in_thread, access_log)
        self._events = self._event_log(twistd, access_log)
        run: Run = configuration.run
        asked = options["metrics-port"]
        metrics_port = (run.metrics_port or 0) if asked is None else asked
        self._data_plane = DataPlane(
            self._network,
            self._reactor,
            in_thread,
            plugins,
            self._lines.write,
            counts=Counts() if metrics_port else None,
        )
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
        self._most_connections = connection_limit()
        self._end_on_signals()
        self._listeners: list[Listener] = []
        self._accepting = True
        port = run.http_port if options["http-port"] is None else options["http-port"]
        addresses = tuple(options["bind"]) or run.bind_ips
        self._sockets = bind_all(addresses, port)
        self._https = HTTPSPort(addresses, options["https-port"], configuration, self._reactor)
        self._controller.changes.why_no_https = self._https.why_not
        self._totals = Totals()
        self._metrics = self._metrics_on(addresses, metrics_port) if metrics_port else None
        self._admin_path = _absolute(options["socket"] or default_socket(os.environ))
        make_way(self._admin_path)
        self._admin_port: Any = None
        self._admin = AdminSite(Admin(self._controller, self.reload_now, self._data_plane.explain))

    def _event_log(self, twistd: Mapping[str, Any], access_log: Path | None) -> EventLog | None:
        """Who writes the proxy's own events to standard output, if that is not for twistd to do."""
        if not takes_events(twistd):
            return None
        lines = self._lines
        if access_log is not None:
            lines = LineWriter(self._reactor, self._in_thread, None)
        # Whatever ends this process, but for a kill.
        atexit.register(lines.close)
        return EventLog(lines.write, self._reactor.callFromThread)

    def _metrics_on(self, addresses: tuple[str, ...], port: int) -> MetricsPort:
        """What Prometheus asks. Its library is only there where that is wanted.

        @raise CannotListen: the port can't be had.
        """
        from kproxy.metrics.endpoint import MetricsPort

        sockets = bind_all(addresses, port)
        return MetricsPort(sockets, self._measure, self._reactor, self._in_thread)

    def _measure(self) -> Deferred[Measured]:
        """What metrics show: of the data plane, of the control plane, and of this process."""
        self._totals.update("control", self._data_plane.measure())
        parts = (self._totals.total(), self._controller.measure(), measure_process("control"))
        return succeed(merged(parts))

    def setServiceParent(self, parent: Any) -> None:
        """Become a part of twistd's application, which hears here who observes its events."""
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]
        if self._events is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self._events)

    def startService(self) -> None:
        """Accept connections, and begin to check the targets."""
        super().startService()  # type: ignore[no-untyped-call]
        configuration = self._configuration
        self._controller.boot(configuration.services, self._restored(), configuration.acme)
        if not self._controller.services():
            _log.warn(
                "there is no service: every request gets a 404, until kproxy deploy or a deploy.yml "
                "(--config) says what to serve"
            )
        site = self._data_plane.site
        site.connections_changed = self._mind_the_limit
        for sock in self._sockets:
            address, port = sock.getsockname()[:2]
            _log.info("listening on {address} port {port}", address=address, port=port)
            self._listeners.append(self._network.listen(sock, site.factory(secure=False)))
        self._https.start(self._listen_tls)
        self._warn_of_missing_https()
        if self._metrics is not None:
            self._metrics.start(self._network)
        self._serve_commands()
        self._reactor.callWhenRunning(self._handle_signals)
        # What is there now stays: the collector need not look at it again and again.
        gc.collect()
        gc.freeze()

    def _listen_tls(self, sock: socket.socket) -> None:
        address, port = sock.getsockname()[:2]
        _log.info("listening on {address} port {port} (HTTPS)", address=address, port=port)
        listener = self._network.listen(sock, self._data_plane.tls.greet)
        self._listeners.append(listener)
        if not self._accepting:
            listener.pause()

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
        from kproxy.tls.acme.automatic import AutomaticCertificates
        from kproxy.tls.acme.dns01 import make_dns_responder
        from kproxy.tls.acme.errors import AcmeError

        dns = None
        try:
            dns = make_dns_responder(acme, self._reactor, self._in_thread)
        except AcmeError as error:
            _log.error("DNS-01 can't be used: {error}", error=error)
        return AutomaticCertificates(
            acme, folder, self._reactor, self._in_thread, changed, on_demand_url, dns=dns
        )

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
            self._admin_port = listen(self._reactor, self._admin_path, self._admin)
        except SocketInUse as error:
            raise SystemExit(f"Error: {error}") from None
        _log.info("commands are taken on {path}", path=self._admin_path)

    def stopService(self) -> Deferred[None]:
        """Accept no more, and let requests finish.

        @return: fires when the last has, or when the longest ``drain_timeout`` is over.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        timeout = max((s.drain_timeout for s in self._controller.services()), default=30.0)
        remembered = self._controller.close()
        self._https.close()
        site = self._data_plane.site
        site.connections_changed = _nothing
        for listener in self._listeners:
            listener.close()
        _log.info(
            "stopping; {count} connections are open, and have {timeout:g} s",
            count=len(site.connections),
            timeout=timeout,
        )
        drained = site.drain()
        timer = self._reactor.callLater(timeout, site.abort_all)

        def stopped(_: object) -> Deferred[None]:
            if timer.active():
                timer.cancel()
            self._data_plane.stop()
            if self._metrics is not None:
                self._metrics.stop()
            self._lines.close()
            if self._state is not None:
                self._state.close()
            return self._admin.end(self._reactor)

        done: Deferred[None] = Deferred()
        unheard = maybeDeferred(self._admin_port.stopListening)
        DeferredList([drained, unheard, remembered]).addCallback(stopped).addBoth(
            lambda _: done.callback(None)
        )
        return done

    def _mind_the_limit(self) -> None:
        """Past the limit new connections wait in the backlog, and existing ones work on."""
        accepting = len(self._data_plane.site.connections) < self._most_connections
        if accepting != self._accepting:
            self._accepting = accepting
            if not accepting:
                _log.warn("{count} connections are open: no more", count=self._most_connections)
            for listener in self._listeners:
                (listener.resume if accepting else listener.pause)()

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
        for name in ("run", "access_log"):
            if getattr(configuration, name) != getattr(self._configuration, name):
                _log.warn("{name} has changed, which takes effect with the next start", name=name)
        self._configuration = configuration
        _log.info("the configuration was read again")
        return self._controller.reload(configuration, tell)

    def _end_on_signals(self) -> None:
        """TERM and INT end with status 0; from before anybody can connect and
        take the proxy for running. Twisted's own handlers would end by the signal itself."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._in_reactor(self._reactor.stop))

    def _handle_signals(self) -> None:
        """The same again, in the place of those that Twisted has installed; HUP reloads, USR1
        reopens logs, twistd's included."""
        if not getattr(self._reactor, "_installSignalHandlers", True):
            return
        rotate = signal.getsignal(signal.SIGUSR1)
        log_file = _log_file_of(rotate)

        def reopen() -> None:
            self._lines.reopen()
            if log_file is not None:
                log_file.reopen()
            elif callable(rotate):
                rotate(signal.SIGUSR1, None)

        for number, action in (
            (signal.SIGTERM, self._reactor.stop),
            (signal.SIGINT, self._reactor.stop),
            (signal.SIGHUP, self.reload),
            (signal.SIGUSR1, reopen),
        ):
            signal.signal(number, self._in_reactor(action))

    def _in_reactor(self, action: Callable[[], object]) -> Callable[[int, Any], None]:
        """A signal handler: the action runs once the reactor is at rest."""
        return lambda number, frame: self._reactor.callFromThread(action)


def _log_file_of(handler: Any) -> LogFile | None:
    """The log file of twistd. Only the handler that twistd has for USR1 knows it, and all that one
    does is to rotate; a file that somebody else's rotation has moved away would be written on."""
    cells = getattr(handler, "__closure__", None) or ()
    return next((c.cell_contents for c in cells if isinstance(c.cell_contents, LogFile)), None)


def _absolute(path: str | Path) -> Path:
    """A path that is still right when twistd has changed the folder it works in."""
    return Path(path).absolute()


def _nothing() -> None:
    pass
