"""The data plane: serves what snapshots say. It decides nothing, and reads no configuration.

The control plane knows three of its methods: `apply`, `drain`, `report`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web.resource import IResource

from kproxy.config.model import Service, Target
from kproxy.http.heads import HeadParser
from kproxy.http.site import Site
from kproxy.interfaces import IWrapperPlugin
from kproxy.network import Network
from kproxy.routing import Table
from kproxy.snapshot import ServiceState, Snapshot
from kproxy.threads import InThread
from kproxy.tree import WrapperFailed, assemble, outer_chain, service_chain
from kproxy.upstream.balancer import Balancer
from kproxy.upstream.pool import TargetPool
from kproxy.upstream.proxy import ReverseProxy
from kproxy.wrappers.access_log import AccessLog, LoggedHeaders
from kproxy.wrappers.base import Wrapper
from kproxy.wrappers.gate import GateControl
from kproxy.wrappers.host_router import HostRouter
from kproxy.wrappers.refusal import Refusal


@dataclass
class _Served:
    """What is kept of one service from snapshot to snapshot."""

    service: Service
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
    """Everything between the clients' connections and the targets', for one process."""

    def __init__(
        self,
        network: Network,
        clock: IReactorTime,
        in_thread: InThread,
        plugins: Mapping[str, IWrapperPlugin],
        write_line: Callable[[str], object],
    ) -> None:
        self._network = network
        self._clock = clock
        self._in_thread = in_thread
        self._plugins = plugins
        self._heads = HeadParser()
        self._served: dict[str, _Served] = {}
        self._applied: dict[str, ServiceState] = {}
        self._retired: dict[tuple[str, Target], list[TargetPool]] = {}
        self._draining: dict[str, list[TargetPool]] = {}
        self._router = HostRouter(Table())
        outer = outer_chain(write_line)
        tree = assemble(outer, self._router, plugins)
        self._access_logs = list(_find(tree, AccessLog))
        refusals = assemble(outer, Refusal(), plugins)  # type: ignore[no-untyped-call]
        self.site = Site(tree, refusals, clock)

    # The interface to the control plane.

    def apply(self, snapshot: Snapshot) -> None:
        """Serve this from the next request on. Requests under way end as they began, but one that
        has no target yet gets one of the new targets.

        @raise WrapperFailed: a wrapper does not take its options; nothing has changed then.
        """
        changed = [s for s in snapshot.services if self._applied.get(s.service.name) is not s]
        prepared = [(state, self._prepare(state.service)) for state in changed]
        self._applied = {state.service.name: state for state in snapshot.services}
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

    # Private.

    def _prepare(self, service: Service) -> _Served:
        """What serves a service: what did already, as far as it has not changed."""
        old = self._served.get(service.name)
        if old is not None and _chain_values(old.service) == _chain_values(service):
            return _Served(service, old.chain, old.balancer, old.control, old.pools)
        balancer = old.balancer if old else Balancer()
        control = old.control if old else GateControl(self._clock)
        leaf = ReverseProxy(balancer, self._clock, service.response_timeout)
        try:
            chain = assemble(service_chain(service, control, self._in_thread), leaf, self._plugins)
        except WrapperFailed as error:
            raise WrapperFailed(f"service {service.name!r}: {error}") from error
        return _Served(service, chain, balancer, control, old.pools if old else {})

    def _settle(self, state: ServiceState, served: _Served) -> None:
        """Bring targets and gate to what the state says."""
        for target in state.service.targets:
            if target not in served.pools:
                served.pools[target] = TargetPool(target, self._network, self._clock, self._heads)
        served.balancer.use([served.pools[target] for target in state.healthy])
        for target in [t for t in served.pools if t not in state.service.targets]:
            self._retire(state.service.name, served, target)
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
    )


def _route_values(served: _Served) -> tuple[Any, ...]:
    """What requests are routed and logged by."""
    service = served.service
    return (service.hosts, service.path_prefixes, service.logging, id(served.chain))


def _find(resource: Any, kind: type[AccessLog]) -> Iterable[AccessLog]:
    while isinstance(resource, Wrapper):
        if isinstance(resource, kind):
            yield resource
        resource = resource.wrapped
