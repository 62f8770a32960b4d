"""Who runs the application: roles, their servers, and the targets that come of them."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from kproxy.config import checks
from kproxy.config.model import Target
from kproxy.config.node import Node, Position, Rejected, Report
from kproxy.config.schema import Text, did_you_mean
from kproxy.config.sections import ROLE, SERVER


@dataclass(frozen=True, slots=True)
class Server:
    """One entry of a list of hosts."""

    name: str
    """A name or an address; IPv6 without brackets."""
    port: int | None = None
    """Its own port, if one was written."""
    tags: tuple[str, ...] = ()

    def is_called(self, other: Server) -> bool:
        """Whether an operator who names the other one means this one."""
        same_port = other.port is None or other.port == self.port
        return same_port and self.name.lower() == other.name.lower()


@dataclass(frozen=True, slots=True)
class Role:
    """One role of ``servers``, or the role ``web`` when ``servers`` is a list."""

    name: str
    position: Position
    servers: tuple[Server, ...] = ()
    proxy: Node | None = None
    """What the role itself says under ``proxy``."""
    complete: bool = True
    """Whether all of its servers could be read."""


def read_roles(document: Node, report: Report) -> tuple[Role, ...]:
    """The roles of a file, in its order; what can't be read is reported and left out."""
    servers = document.get("servers")
    if servers is None:
        return ()
    if servers.tag == "seq":
        return (_role_of("web", servers.position, servers, None, report),)
    if servers.tag != "map":
        servers.report(
            report, f"should be a list of hosts or a map of roles, is {servers.describe()}"
        )
        return ()
    return tuple(_role(name, servers.at_key(name), node, report) for name, node in servers.items())


def read_servers(node: Node, report: Report) -> tuple[Server, ...]:
    """A list of hosts, each perhaps with tags; what can't be read is reported and left out."""
    if node.tag != "seq":
        node.report(report, f"should be a list of hosts, is {node.describe()}")
        return ()
    found: dict[Server, None] = {}
    for element in node.elements():
        try:
            found[_server(element, report)] = None
        except Rejected:
            continue
    return tuple(found)


def parse_server(text: str) -> Server:
    """A server as the command line names it; one that can't exist is like no other."""
    try:
        return Server(*checks.server(text))
    except ValueError:
        return Server(text)


def choose_targets(
    listed: Iterable[Server],
    replacements: Iterable[Server] | None,
    port: int,
    only: Server | None,
) -> tuple[Target, ...] | None:
    """What a role's requests are sent to (behaviour.md section 1).

    @param listed: the hosts of the role.
    @param replacements: ``x-kproxy.targets``; None: not written.
    @param port: the port of whom has none of its own.
    @param only: ``--server``. A role that lists it only in `listed`, and has `replacements`, is the
        role of a server whose targets have other names there: it gets them all.
    @return: None: the role does not belong to this proxy.
    """
    listed = tuple(listed)
    servers = listed if replacements is None else tuple(replacements)
    if only is not None:
        named = tuple(server for server in servers if server.is_called(only))
        if not named and (
            replacements is None or not any(server.is_called(only) for server in listed)
        ):
            return None
        servers = named or servers
    targets = (Target(server.name, server.port or port) for server in servers)
    return tuple(dict.fromkeys(targets))


def accessory_servers(
    accessory: Node, roles: tuple[Role, ...], report: Report
) -> tuple[Server, ...]:
    """Where an accessory runs: its ``host`` or ``hosts``, else what its roles or tags stand for."""
    names = {key: _words(accessory, (key, f"{key}s"), report) for key in ("host", "role", "tag")}
    hosts = []
    for node in names["host"]:
        try:
            hosts.append(Server(*SERVER.read(node, report)))
        except Rejected:
            continue
    for node in names["role"]:
        role = next((role for role in roles if role.name == node.text), None)
        if role is None:
            guess = did_you_mean(node.text, (role.name for role in roles))
            node.report(report, f"there is no role {node.describe()}{guess}")
        else:
            hosts += role.servers
    tags = {node.text for node in names["tag"]}
    if tags:
        hosts += (each for role in roles for each in role.servers if tags.intersection(each.tags))
    return tuple(dict.fromkeys(hosts))


def _role(name: str, position: Position, node: Node, report: Report) -> Role:
    if node.is_null:
        return Role(name, position)
    if node.tag == "seq":
        return _role_of(name, position, node, None, report)
    # The keys that are known are still worth reading, for what may be wrong in them.
    with suppress(Rejected):
        ROLE.read(node, report)
    return _role_of(name, position, node.get("hosts"), node.get("proxy"), report)


def _role_of(
    name: str, position: Position, hosts: Node | None, proxy: Node | None, report: Report
) -> Role:
    before = len(report)
    servers = () if hosts is None else read_servers(hosts, report)
    return Role(name, position, servers, proxy, len(report) == before)


def _server(node: Node, report: Report) -> Server:
    if node.tag != "map":
        return Server(*SERVER.read(node, report))
    entries = list(node.items())
    if len(entries) != 1:
        raise node.report(report, "should be one host, or one HOST: TAGS")
    name, tags = entries[0]
    try:
        host, port = checks.server(name)
    except ValueError as error:
        raise node.report(report, f'{error}, is "{name}"') from error
    elements = tags.elements() if tags.tag == "seq" else () if tags.is_null else (tags,)
    return Server(host, port, tuple(Text().read(tag, report) for tag in elements))


def _words(node: Node, keys: tuple[str, ...], report: Report) -> list[Node]:
    """The texts behind any of some keys, be they one or a list."""
    found = []
    for key in keys:
        value = node.get(key)
        if value is None:
            continue
        for each in value.elements() if value.tag == "seq" else (value,):
            try:
                Text().read(each, report)
                found.append(each)
            except Rejected:
                continue
    return found
