"""One deploy.yml → the services it declares, and what it says for the whole proxy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from kproxy.config.claims import Declared, Services
from kproxy.config.model import Acme, Service, Target, WrapperUse
from kproxy.config.node import Node, Position, Rejected, Report, merge
from kproxy.config.pages import Pages, read_pages
from kproxy.config.schema import Boolean, Section, did_you_mean
from kproxy.config.sections import (
    ACME,
    EXTRAS,
    NOT_FOR_A_ROLE,
    PROXY,
    TOP,
    X_KPROXY,
    AcmeOptions,
    Extras,
    ProxyOptions,
    Top,
)
from kproxy.config.servers import (
    Role,
    Server,
    accessory_servers,
    choose_targets,
    parse_server,
    read_roles,
)
from kproxy.config.ssl_rules import check_ssl
from kproxy.config.uses import Validator, read_use, read_uses

T = TypeVar("T")

_SERVERS = frozenset(("servers", "primary_role", "accessories"))
"""The options that say who runs the application."""
_TARGETS = frozenset(("targets", "allow_empty_roles"))
"""The options that decide whether a role is one without hosts."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What decides the meaning of a file from outside it."""

    destination: str | None
    server: str | None
    wrappers: Mapping[str, Validator]
    dns_responders: Mapping[str, Validator]
    stores: Mapping[str, Validator]
    report: Report


@dataclass(frozen=True, slots=True)
class Said:
    """A value for the whole proxy, and where it is written."""

    name: str
    value: Any
    position: Position
    key: str


@dataclass(slots=True)
class Application:
    """What one file says."""

    start: Position
    services: Services = field(default_factory=Services)
    said: list[Said] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A role or an accessory that is to be proxied."""

    name: str
    proxy: Node
    servers: tuple[Server, ...]
    position: Position
    key: str
    complete: bool
    """Whether all of the servers could be read."""
    role: str | None
    """None: an accessory, to which ``x-kproxy`` does not apply."""


def read_application(document: Node, folder: Path, around: Circumstances) -> Application:
    """Understand a file, destination and all merged.

    Problems go to the report. What stands beside them is read all the same, as far as it makes
    sense, so that all are found at once; where there are any, what is returned may lack something.

    @param folder: where its relative paths start.
    """
    return _Reader(document, folder, around).read()


class _Reader:
    def __init__(self, document: Node, folder: Path, around: Circumstances) -> None:
        self.document = document
        self.folder = folder
        self.around = around
        self.report = around.report
        self.application = Application(document.position)
        self.x_kproxy = document.get("x-kproxy") or document.empty()
        roles = self.x_kproxy.get("roles")
        self.special = {} if roles is None else dict(roles.items())
        self.extras_read: dict[str, tuple[Extras, tuple[WrapperUse, ...], frozenset[str]]] = {}
        self.top = Top()
        self.top_unread: frozenset[str] = frozenset()
        self.acme: Acme | None = None

    def read(self) -> Application:
        ignored = {key for key, _ in self.document.items() if key.startswith("x-")}
        known = self.document.without(ignored - {"x-kproxy"})
        self.top, self.top_unread = self.attempt(TOP, known, Top())
        self.error_pages = self.read_error_pages()
        self.read_globals()
        before = len(self.report)
        roles = read_roles(self.document, self.report)
        self.check_role_names(roles)
        candidates = [*self.proxied_roles(roles), *self.proxied_accessories(roles)]
        sure = len(self.report) == before and not _SERVERS & self.top_unread
        if not candidates and sure:
            message = "nothing is proxied: no role of servers, and no accessory"
            self.report.add(self.document.position, "", message)
        self.check_root_proxy()
        for candidate in candidates:
            self.add(candidate)
        return self.application

    def read_error_pages(self) -> Pages:
        folder = self.document.get("error_pages_path")
        if folder is None or folder.tag != "str":
            return ()
        try:
            return read_pages(self.path(folder.text))
        except ValueError as error:
            folder.report(self.report, f"{error}, is {folder.describe()}")
            return ()

    def attempt(self, kind: Section[T], node: Node, otherwise: T) -> tuple[T, frozenset[str]]:
        """Read a section, as far as possible.

        @param otherwise: what it is when nothing of it can be used.
        @return: what could be read, and the names of the options that could not.
        """
        try:
            return kind.read_partly(node, self.report)
        except Rejected:
            return otherwise, frozenset(option.name for option in kind.options)

    def path(self, text: str) -> Path:
        return self.folder / text

    def read_globals(self) -> None:
        """``x-kproxy`` as a whole, and of it what is not for one role or another."""
        values, _ = self.attempt(X_KPROXY, self.x_kproxy, {})
        for section in (self.x_kproxy, *self.special.values()):
            read_uses(section.get("wrappers"), self.around.wrappers, self.report)
        acme = self.x_kproxy.get("acme")
        if acme is not None and acme.tag == "map":
            options, _ = self.attempt(ACME, acme, AcmeOptions())
            self.acme = self.read_acme(options, acme)
            self.say("acme", self.acme, self.x_kproxy)
        if (log := values.get("access_log")) is not None:
            self.say("access_log", self.path(log), self.x_kproxy)
        if (workers := values.get("workers")) is not None:
            self.say("workers", workers, self.x_kproxy)

    def say(self, name: str, value: object, section: Node) -> None:
        node = section.get(name) or section
        self.application.said.append(Said(name, value, node.position, node.key))

    def read_acme(self, options: AcmeOptions, section: Node) -> Acme:
        dns: WrapperUse | None = None
        if (responder := section.get("dns")) is not None:
            responders = self.around.dns_responders
            dns = read_use(responder, responders, self.report, "DNS-01 responder")
        elif "dns-01" in options.challenges:
            challenges = section.get("challenges") or section
            challenges.report(self.report, "dns-01 needs a responder, under dns")
        store: WrapperUse | None = None
        if (written := section.get("store")) is not None:
            store = read_use(written, self.around.stores, self.report, "certificate store")
        ca_file = None if options.ca_file is None else self.path(options.ca_file)
        if ca_file is not None and not ca_file.is_file():
            node = section.get("ca_file") or section
            node.report(self.report, f"should be a file that exists, is {node.describe()}")
        return Acme(
            directory=options.directory,
            email=options.email,
            ca_file=ca_file,
            challenges=options.challenges,
            eab=options.eab,
            dns=dns,
            store=store,
            secrets_files=self.secrets_files if dns or store else (),
        )

    def check_role_names(self, roles: tuple[Role, ...]) -> None:
        """Roles that other parts of the file speak of have to exist."""
        names = {role.name for role in roles} or {"web"}
        primary = self.document.get("primary_role")
        read = primary is not None and "primary_role" not in self.top_unread
        if roles and primary is not None and read and primary.text not in names:
            guess = did_you_mean(primary.text, names)
            primary.report(self.report, f"there is no role {primary.describe()}{guess}")
        for name, node in self.special.items():
            if name not in names and name != self.top.primary_role:
                guess = did_you_mean(name, names)
                node.report(self.report, f'there is no role "{name}"{guess}')

    def check_root_proxy(self) -> None:
        """The root section is checked even if every role overrides what is wrong in it."""
        root = self.document.get("proxy")
        if root is not None:
            self.attempt(PROXY, root, ProxyOptions())

    def proxied_roles(self, roles: tuple[Role, ...]) -> Iterator[_Candidate]:
        root = self.document.get("proxy") or self.document.empty()
        primary = self.top.primary_role
        if self.document.get("servers") is None and self.extras_node(primary).get("targets"):
            roles = (Role(primary, self.x_kproxy.position),)
        for role in roles:
            proxy = self.role_proxy(role, root, enabled=role.name == primary)
            if proxy is not None:
                parts = (self.top.service, role.name, self.around.destination)
                name = "-".join(filter(None, parts))
                key = f"servers.{role.name}"
                yield _Candidate(
                    name, proxy, role.servers, role.position, key, role.complete, role.name
                )

    def role_proxy(self, role: Role, root: Node, *, enabled: bool) -> Node | None:
        """The proxy section of a role, merged with the root's; None: it is not proxied."""
        if role.proxy is None:
            return root if enabled else None
        if role.proxy.tag == "bool":
            return root if Boolean().read(role.proxy, self.report) else None
        if role.proxy.tag != "map":
            found = role.proxy.describe()
            role.proxy.report(self.report, f"should be true, false or a map, is {found}")
            return None
        return merge(root, role.proxy)

    def proxied_accessories(self, roles: tuple[Role, ...]) -> Iterator[_Candidate]:
        accessories = self.document.get("accessories")
        if accessories is None:
            return
        if accessories.tag != "map":
            accessories.report(self.report, f"should be a map, is {accessories.describe()}")
            return
        for name, accessory in accessories.items():
            proxy = accessory.get("proxy")
            if proxy is None or (proxy.tag == "bool" and not Boolean().read(proxy, self.report)):
                continue
            before = len(self.report)
            servers = accessory_servers(accessory, roles, self.report)
            complete = len(self.report) == before
            full_name = f"{self.top.service}-{name}"
            position = accessories.at_key(name)
            yield _Candidate(full_name, proxy, servers, position, accessory.key, complete, None)

    def extras_node(self, role: str) -> Node:
        """``x-kproxy`` as it holds for one role."""
        general = self.x_kproxy.without(NOT_FOR_A_ROLE)
        special = self.special.get(role)
        return general if special is None else merge(general, special)

    def add(self, candidate: _Candidate) -> None:
        """Validate what is proxied, and if this proxy serves it, add it to the services."""
        extras, wrappers, unread = self.extras(candidate.role)
        options, options_unread = self.attempt(PROXY, candidate.proxy, ProxyOptions())
        unread |= self.top_unread | options_unread
        check_ssl(
            candidate.proxy,
            options,
            extras,
            unread=unread,
            servers=len(candidate.servers),
            dns=self.acme_has("dns"),
            shared=self.acme_has("store"),
            report=self.report,
        )
        if options.run is not None:
            self.say("run", options.run, candidate.proxy)
        if not candidate.complete:
            unread |= {"targets"}
        targets = self.targets(candidate, options, extras, unread)
        if targets:
            service = replace(
                self.service(candidate.name, options, extras), targets=targets, wrappers=wrappers
            )
            declared = self.declare(service, candidate, unread)
            services = self.application.services
            (services.add if candidate.role is None else services.join)(declared)

    def extras(self, role: str | None) -> tuple[Extras, tuple[WrapperUse, ...], frozenset[str]]:
        """What ``x-kproxy`` says for a role, and which of its options could not be read.

        @param role: None: an accessory, for which it says nothing.
        """
        if role is None:
            return Extras(), (), frozenset()
        # Of thousands of roles, most have nothing of their own there.
        key = role if role in self.special else ""
        if key not in self.extras_read:
            node = self.extras_node(role)
            # What is wrong with it has been reported where it stands.
            extras, unread = self.attempt(EXTRAS, node, Extras())
            written = node.get("wrappers")
            uses = read_uses(written, self.around.wrappers, self.report)
            if written is not None and len(uses) < max(1, len(written.raw.elements)):
                unread |= {"wrappers"}
            self.extras_read[key] = (extras, uses, unread)
        return self.extras_read[key]

    def acme_has(self, plugin: str) -> bool:
        """Whether ``x-kproxy.acme`` names one of its plug-ins, be it right or wrong."""
        acme = self.x_kproxy.get("acme")
        return acme is not None and acme.get(plugin) is not None

    def targets(
        self,
        candidate: _Candidate,
        options: ProxyOptions,
        extras: Extras,
        unread: frozenset[str],
    ) -> tuple[Target, ...] | None:
        """The targets of a role or an accessory; none if this proxy does not serve it."""
        replacements = None
        if extras.targets is not None:
            replacements = [Server(*each) for each in extras.targets]
        if not (candidate.servers if replacements is None else replacements):
            if not self.top.allow_empty_roles and _TARGETS.isdisjoint(unread):
                message = f"{candidate.name} has no hosts to send requests to"
                self.report.add(candidate.position, candidate.key, message)
            return None
        only = None if self.around.server is None else parse_server(self.around.server)
        return choose_targets(candidate.servers, replacements, options.app_port, only)

    def declare(self, service: Service, candidate: _Candidate, unread: frozenset[str]) -> Declared:
        where = candidate.proxy.get("host") or candidate.proxy.get("hosts")
        if where is None:
            return Declared(service, candidate.position, candidate.key, unread)
        return Declared(service, where.position, where.key, unread)

    def service(self, name: str, options: ProxyOptions, extras: Extras) -> Service:
        """All of a service but its targets and wrappers."""
        forward = options.forward_headers
        readers = [Server(*each) for each in extras.read_targets]
        return Service(
            name=name,
            targets=(),
            hosts=options.all_hosts,
            path_prefixes=options.all_prefixes,
            strip_path_prefix=options.strip_path_prefix,
            ssl=options.ssl,
            ssl_redirect=options.ssl_redirect,
            forward_headers=not options.ssl if forward is None else forward,
            response_timeout=options.response_timeout,
            healthcheck=replace(
                options.healthcheck, port=extras.healthcheck_port, host=extras.healthcheck_host
            ),
            buffering=options.buffering,
            logging=options.logging,
            deploy_timeout=self.top.deploy_timeout,
            drain_timeout=self.top.drain_timeout,
            error_pages=self.error_pages,
            secrets_files=self.secrets_files,
            canonical_host=extras.canonical_host,
            client_ip_header=extras.client_ip_header,
            scope_cookie_paths=extras.scope_cookie_paths,
            tls_on_demand_url=extras.tls_on_demand_url,
            exclude_metrics_paths=extras.exclude_metrics_paths,
            read_targets=choose_targets(readers, None, options.app_port, None) or (),
            writer_affinity_timeout=extras.writer_affinity_timeout,
        )

    @cached_property
    def secrets_files(self) -> tuple[Path, ...]:
        """Kamal's two: what all destinations share, then what is for one."""
        secrets = self.path(self.top.secrets_path)
        ending = f".{self.around.destination}" if self.around.destination else ""
        return Path(f"{secrets}-common"), Path(f"{secrets}{ending}")
