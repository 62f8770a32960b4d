"""The data plane: serves what snapshots say. It decides nothing, and reads no configuration.

The control plane knows four of its methods: `apply`, `drain`, `report`, `refresh`. The data plane
knows two things of the control plane: that it may be asked for a certificate
(`DataPlane.certificate_wanted`), and told of a target that takes no connection
(`DataPlane.target_refused`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.web.resource import IResource

from kproxy.config.model import Service, Target
from kproxy.explaining import Question, Walk, explain
from kproxy.http.heads import HeadParser
from kproxy.http.site import Site
from kproxy.interfaces import IWrapperPlugin
from kproxy.metrics.catalog import Measured
from kproxy.metrics.counts import Counts
from kproxy.network import Network
from kproxy.routing import Table
from kproxy.snapshot import ServiceState, Snapshot
from kproxy.threads import InThread
from kproxy.tls.server import TLSServer
from kproxy.tree import WrapperFailed, assemble, outer_chain, service_chain
from kproxy.upstream.balancer import Balancer
from kproxy.upstream.choice import Choice, Side
from kproxy.upstream.pool import TargetPool
from kproxy.upstream.proxy import ReverseProxy, head_for
from kproxy.wrappers.access_log import AccessLog, LoggedHeaders
from kproxy.wrappers.acme_challenge import AcmeChallenge
from kproxy.wrappers.base import Wrapper
from kproxy.wrappers.gate import GateControl
from kproxy.wrappers.host_router import HostRouter
from kproxy.wrappers.refusal import Refusal

W = TypeVar("W", bound=Wrapper)


@dataclass
class _Served:
    """What is kept of one service from snapshot to snapshot."""

    service: Service
    chain_values: tuple[Any, ...]
    chain: IResource
    balancer: Balancer
    control: GateControl
    pools: dict[Target, TargetPool]


@dataclass(frozen=True)
class TargetReport:
    """What one target is doing."""

    address: str
    active: int
    """Requests that it has been given and has not answered."""
    draining: bool = False
    """It is not served any more, and gets no new ones."""


class DataPlane:
    """Everything between the clients' connections and the targets', for one process.

    @ivar tls: what the HTTPS port's connections are chosen by.
    @ivar certificate_wanted: called with a name (lower case, no trailing dot) when a TLS handshake
        needs a certificate that the snapshot promises and has not. When its Deferred fires, the name
        is looked up in what has been applied meanwhile.
    @ivar target_refused: called with a service's name and one of its targets, to which a request
        could not be brought; that request has gone on to another target, if there is one.
    """

    certificate_wanted: Callable[[str], Deferred[None]]

    def __init__(
        self,
        network: Network,
        clock: IReactorTime,
        in_thread: InThread,
        plugins: Mapping[str, IWrapperPlugin],
        write_line: Callable[[str], object],
        now: Callable[[], float] = time.time,
        counts: Counts | None = None,
    ) -> None:
        """@param now: seconds since the epoch.
        @param counts: where to count what metrics show; None: nothing is counted."""
        self._network = network
        self._clock = clock
        self._in_thread = in_thread
        self._plugins = plugins
        self._now = now
        self._counts = counts
        self.target_refused: Callable[[str, Target], object] = _unheard
        self._heads = HeadParser()
        self._served: dict[str, _Served] = {}
        self._applied: dict[str, ServiceState] = {}
        self._retired: dict[tuple[str, Target], list[TargetPool]] = {}
        self._draining: dict[str, list[TargetPool]] = {}
        self._router = HostRouter(Table())
        outer = outer_chain(write_line, counts)
        tree = assemble(outer, self._router, plugins)
        self._access_logs = list(_find(tree, AccessLog))
        self._challenges = list(_find(tree, AcmeChallenge))
        refusals = assemble(outer, Refusal(), plugins)  # type: ignore[no-untyped-call]
        self.site = Site(tree, refusals, clock)
        self.certificate_wanted = _nobody_has_certificates
        self.tls = TLSServer(self.site, clock, lambda name: self.certificate_wanted(name))
        if counts is not None:
            self.tls.handshake_ended = counts.handshake

    # The interface to the control plane.

    def apply(self, snapshot: Snapshot) -> Deferred[None]:
        """Serve this from the next request on. Requests under way end as they began, but one that
        has no target yet gets one of the new targets.

        @return: has fired: in this process, it is served when this returns.
        @raise WrapperFailed: a wrapper does not take its options; nothing has changed then.
        """
        changed = [s for s in snapshot.services if self._applied.get(s.service.name) is not s]
        prepared = [(state, self._prepare(state)) for state in changed]
        self._applied = {state.service.name: state for state in snapshot.services}
        self.tls.use(snapshot)
        for wrapper in self._challenges:
            wrapper.answer(
                (each.token, each.key_authorization) for each in snapshot.http_challenges
            )
        routes_changed = False
        for state, served in prepared:
            name = state.service.name
            old = self._served.get(name)
            routes_changed |= old is None or _route_values(old) != _route_values(served)
            self._settle(state, served)
            self._served[name] = served
        for name in [name for name in self._served if name not in self._applied]:
            gone = self._served.pop(name)
            routes_changed = True
            for target in list(gone.pools):
                self._retire(name, gone, target)
        if routes_changed:
            self._route()
        return succeed(None)

    def _route(self) -> None:
        """Build what finds a service; every request from now on follows it."""
        self._router.table = Table(
            (s.service.hosts, s.service.path_prefixes, (name, s.chain))
            for name, s in self._served.items()
        )
        logged = {
            name: LoggedHeaders(
                s.service.logging.request_headers, s.service.logging.response_headers
            )
            for name, s in self._served.items()
        }
        for log in self._access_logs:
            log.show_headers(logged)

    def drain(self, service: str, targets: Iterable[Target], timeout: float) -> Deferred[None]:
        """Let requests end that the targets have been given: those that went before the last
        snapshot took a target away, or, of one that is still served, those that it has now.
        Upgraded connections are closed at once.

        @param timeout: seconds, after which those that are left are cut.
        @return: fires when the targets have none left.
        """
        done: Deferred[None] = Deferred()
        pools = [pool for target in targets for pool in self._to_drain(service, target)]
        exchanges = {exchange for pool in pools for exchange in pool.active}
        if not exchanges:
            done.callback(None)
            return done
        draining = self._draining.setdefault(service, [])
        gone = [pool for pool in pools if pool.closed]
        draining += gone

        def one_ended(exchange: Any) -> None:
            if exchange.pool in pools:  # on to another target that is waited for
                exchange.on_end(one_ended)
                return
            exchanges.discard(exchange)
            if not exchanges and not done.called:
                if timer.active():
                    timer.cancel()
                end()

        def time_out() -> None:
            for exchange in list(exchanges):
                exchange.cancel()
            if not done.called:
                end()

        def end() -> None:
            for pool in gone:
                draining.remove(pool)
            if not draining and self._draining.get(service) is draining:
                del self._draining[service]
            done.callback(None)

        timer = self._clock.callLater(timeout, time_out)
        for exchange in list(exchanges):
            exchange.on_end(one_ended)
        for exchange in [exchange for exchange in exchanges if exchange.upgraded_away]:
            exchange.cancel()
        return done

    def _to_drain(self, service: str, target: Target) -> list[TargetPool]:
        retired = self._retired.pop((service, target), None)
        if retired is not None:
            return retired
        served = self._served.get(service)
        return [served.pools[target]] if served is not None and target in served.pools else []

    def report(self) -> dict[str, list[TargetReport]]:
        """What each service's targets are doing, by the service's name; those that are being
        drained come last."""
        reports = {
            name: [TargetReport(pool.address, len(pool.active)) for pool in served.pools.values()]
            for name, served in self._served.items()
        }
        for name, pools in self._draining.items():
            drained = [TargetReport(pool.address, len(pool.active), True) for pool in pools]
            reports.setdefault(name, []).extend(drained)
        return reports

    def measure(self) -> Measured:
        """What has been counted since this process began, and what there is now; empty if nothing is
        counted."""
        if self._counts is None:
            return {}
        pools = {name: served.pools.values() for name, served in self._served.items()}
        return self._counts.measured(len(self.site.connections), pools)

    def refresh(self) -> Deferred[None]:
        """Let `report` tell what is; here it always does."""
        return succeed(None)

    def explain(self, question: Question) -> Deferred[dict[str, Any]]:
        """What would become of a request, as far as that can be told without sending it.

        @return: fires with plain data; see `kproxy.explaining.explain`.
        @raise kproxy.explaining.BadQuestion: there can be no such request.
        """
        walk = Walk(self._clock, self._plugins)

        def chain(name: str) -> IResource:
            state, served = self._applied[name], self._served[name]
            links = service_chain(
                state.service,
                walk.gate(served.control),
                self._in_thread,
                readers=state.has_readers(),
            )
            return walk.chain(links, lambda: walk.leaf(lambda request: _preview(served, request)))

        outer = outer_chain(lambda line: None)
        tree = walk.chain(outer, lambda: walk.router(self._router.table, chain))
        return explain(question, walk, tree)

    # Private.

    def _prepare(self, state: ServiceState) -> _Served:
        """What serves a service: what did already, as far as it has not changed."""
        service, readers = state.service, state.has_readers()
        values = (*_chain_values(service), readers)
        old = self._served.get(service.name)
        if old is not None and old.chain_values == values:
            return replace(old, service=service)
        balancer = old.balancer if old else Balancer()
        control = old.control if old else GateControl(self._clock)
        counts = None if self._counts is None else self._counts.service(service.name)
        leaf = ReverseProxy(
            balancer,
            self._clock,
            service.response_timeout,
            lambda target: self.target_refused(service.name, target),
            None if counts is None else counts.responses.observe,
        )
        links = service_chain(service, control, self._in_thread, readers=readers)
        try:
            chain = assemble(links, leaf, self._plugins)
        except WrapperFailed as error:
            raise WrapperFailed(f"service {service.name!r}: {error}") from error
        pools = old.pools if old else {}
        return _Served(service, values, chain, balancer, control, pools)

    def _settle(self, state: ServiceState, served: _Served) -> None:
        """Bring targets and gate to what the state says."""
        pools, targets, counts = served.pools, state.targets(), None
        if self._counts is not None:
            counts = self._counts.service(state.service.name)
            counts.exclude(state.service.exclude_metrics_paths)
        for target in targets:
            if target not in pools:
                pools[target] = TargetPool(target, self._network, self._clock, self._heads, counts)
        service, rollout, healthy = state.service, state.rollout, state.healthy

        def up(targets: Iterable[Target], healthy: Collection[Target]) -> list[TargetPool]:
            return [pools[target] for target in targets if target in healthy]

        served.balancer.use(up(service.targets, healthy))
        choice: Choice | None = None
        if rollout is not None or service.read_targets:
            active = Side(served.balancer, Balancer(up(service.read_targets, healthy)))
            choice = Choice(active, service.read_target_websockets, self._now)
        if choice is not None and rollout is not None:
            writers = Balancer(up(rollout.targets, rollout.healthy))
            choice.rollout = Side(writers, Balancer(up(rollout.read_targets, rollout.healthy)))
            choice.split = rollout.split
        served.balancer.choice = choice
        for target in [target for target in pools if target not in targets]:
            self._retire(service.name, served, target)
        control = served.control
        if state.gate == "paused":
            control.pause(state.max_pause)
        elif state.gate == "stopped":
            control.stop(state.message)
        elif control.state != "running":
            control.run()

    def _retire(self, name: str, served: _Served, target: Target) -> None:
        pool = served.pools.pop(target)
        pool.close()
        self._retired.setdefault((name, target), []).append(pool)

    def stop(self) -> None:
        """Let go of everything; the connections should be closed by now."""
        self.apply(Snapshot())
        self.site.stop()
        self.tls.stop()


def _nobody_has_certificates(name: str) -> Deferred[None]:
    return fail(LookupError(f"nobody gets certificates for {name}"))


def _preview(served: _Served, request: Any) -> tuple[str, bytes] | None:
    """Which target would get a request, and how."""
    balancer = served.balancer
    pool = balancer.peek() if balancer.choice is None else balancer.choice.peek(request)
    if pool is None:
        return None
    return pool.address, head_for(request, pool.address_bytes)


def _chain_values(service: Service) -> tuple[Any, ...]:
    """What a service's chain is made from: a change of anything else leaves it in place."""
    s = service
    return (
        s.path_prefixes,
        s.strip_path_prefix,
        s.ssl,
        s.ssl_redirect,
        s.forward_headers,
        s.response_timeout,
        s.healthcheck.path,
        s.buffering,
        s.error_pages,
        s.wrappers,
        s.canonical_host,
        s.client_ip_header,
        s.scope_cookie_paths,
        s.writer_affinity_timeout,
        s.read_target_websockets,
    )


def _route_values(served: _Served) -> tuple[Any, ...]:
    """What requests are routed and logged by."""
    service = served.service
    return (service.hosts, service.path_prefixes, service.logging, id(served.chain))


def _unheard(service: str, target: Target) -> None:
    """Without a control plane nobody is told."""


def _find(resource: Any, kind: type[W]) -> Iterable[W]:
    while isinstance(resource, Wrapper):
        if isinstance(resource, kind):
            yield resource
        resource = resource.wrapped
