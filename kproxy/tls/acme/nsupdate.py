"""Questions to name servers, and changes (RFC 2136), with dnspython. Everything here blocks.

Every message has a limit of its own, so that a call always ends.
"""

from __future__ import annotations

import socket
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass, field

from kproxy.tls.acme.errors import AcmeError, one_line

try:
    import dns.exception
    import dns.flags
    import dns.message
    import dns.name
    import dns.query
    import dns.rcode
    import dns.rdatatype
    import dns.resolver
    import dns.tsig
    import dns.update
except ImportError as error:
    raise ImportError("it needs dnspython: pip install dnspython") from error

_ASK_TIMEOUT = 5.0
_UPDATE_TIMEOUT = 10.0
_PROBE_TIMEOUT = 3.0
_LONGEST_CHAIN = 8


@dataclass(frozen=True, slots=True)
class Server:
    """A name server."""

    address: str
    """Numeric."""
    port: int
    name: str = ""
    """What it is called, for messages."""

    def __str__(self) -> str:
        return self.name or self.address


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record is to be put."""

    server: Server
    zone: dns.name.Name
    owner: dns.name.Name
    ttl: int
    key: dns.tsig.Key | None = field(repr=False)

    def add(self, value: str) -> None:
        """Add a TXT record, beside those that are there.

        @raise AcmeError: the server does not take it.
        """
        update = self._update()
        update.add(self.owner, self.ttl, "TXT", f'"{value}"')
        self._send(update)

    def remove(self, value: str) -> None:
        """Remove this one TXT record; that it is not there is fine.

        @raise AcmeError: the server does not take it.
        """
        update = self._update()
        update.delete(self.owner, "TXT", f'"{value}"')
        self._send(update)

    def lacking(self, value: str) -> list[Server]:
        """Those of the zone's servers that answer, and don't have the record yet.

        One that does not answer us says nothing of what it answers the CA.
        """
        lacking = []
        for server in self._secondaries():
            try:
                answer = ask(server, self.owner, "TXT", _PROBE_TIMEOUT)
            except AcmeError:
                continue
            if value not in _texts(answer, self.owner):
                lacking.append(server)
        return lacking

    def _secondaries(self) -> list[Server]:
        """The servers that the zone names, by address; the one that took the update if it has none."""
        answer = ask(self.server, self.zone, "NS")
        names = [
            record.target
            for rrset in answer.answer
            if rrset.rdtype == dns.rdatatype.NS and rrset.name == self.zone
            for record in rrset
        ]
        servers = [server for name in names for server in self._addresses(name)]
        return servers or [self.server]

    def _addresses(self, name: dns.name.Name) -> Iterator[Server]:
        text = name.to_text(omit_final_dot=True)
        found = set()
        for kind in ("A", "AAAA"):
            try:
                answer = ask(self.server, name, kind)
            except AcmeError:
                continue
            found |= {
                record.address
                for rrset in answer.answer
                if rrset.name == name
                for record in rrset
                if rrset.rdtype in (dns.rdatatype.A, dns.rdatatype.AAAA)
            }
        if not found:
            found = _resolved(text)
        for address in sorted(found):
            # The only server of which we know that it listens elsewhere.
            port = self.server.port if address == self.server.address else 53
            yield Server(address, port, text)

    def _update(self) -> dns.update.UpdateMessage:
        update = dns.update.UpdateMessage(self.zone)
        if self.key is not None:
            update.use_tsig(self.key)
        return update

    def _send(self, update: dns.update.UpdateMessage) -> None:
        answer = _exchange(self.server, update, _UPDATE_TIMEOUT, tcp=True)
        if answer.rcode() != dns.rcode.NOERROR:
            code = dns.rcode.to_text(answer.rcode())
            raise AcmeError(f"{self.server} refuses to change the zone {_text(self.zone)}: {code}")


def make_key(name: str, algorithm: str, secret: str) -> dns.tsig.Key:
    """A TSIG key (RFC 8945).

    @param secret: base64.
    @raise AcmeError: it is not; the message does not quote it.
    """
    try:
        content = b64decode("".join(secret.split()), validate=True)
    except ValueError:
        raise AcmeError(f"the secret of the TSIG key {name} is not base64") from None
    return dns.tsig.Key(dns.name.from_text(name), content, f"{algorithm}.")


def find_server(host: str, port: int) -> Server:
    """A name server by its name or address.

    @raise AcmeError: there is no such host.
    """
    addresses = _resolved(host)
    if not addresses:
        raise AcmeError(f"the name server {host} has no address")
    return Server(min(addresses, key=lambda each: (":" in each, each)), port, host)


def find_place(
    server: Server, name: str, *, zone: str | None, ttl: int, key: dns.tsig.Key | None
) -> Place:
    """Where to put the record of a name: behind its CNAMEs, in the zone that `server` has.

    @param zone: None: it is found by asking the server for SOA records.
    @raise AcmeError: the server has no such zone, or does not answer.
    """
    owner = _follow(server, dns.name.from_text(name))
    if zone is not None:
        found = dns.name.from_text(zone)
        if not owner.is_subdomain(found):
            raise AcmeError(f"{_text(owner)} is not in the zone {_text(found)}")
    else:
        found = _zone_of(server, owner)
    return Place(server, found, owner, ttl, key)


def ask(
    server: Server, name: dns.name.Name, kind: str, timeout: float = _ASK_TIMEOUT
) -> dns.message.Message:
    """Ask a name server; it may answer that there is nothing.

    @raise AcmeError: it does not answer.
    """
    return _exchange(server, dns.message.make_query(name, kind), timeout)


def _exchange(
    server: Server, message: dns.message.Message, timeout: float, *, tcp: bool = False
) -> dns.message.Message:
    where, port = server.address, server.port
    try:
        if tcp:
            return dns.query.tcp(message, where, timeout, port)
        return dns.query.udp_with_fallback(message, where, timeout, port)[0]
    except dns.exception.Timeout:
        raise AcmeError(f"the name server {server} did not answer within {timeout:g} s") from None
    except dns.tsig.PeerError as error:
        raise AcmeError(f"{server} does not take the TSIG key: {_words(error)}") from None
    except (dns.exception.DNSException, OSError, EOFError) as error:
        raise AcmeError(f"the name server {server} can't be asked: {_words(error)}") from None


def _follow(server: Server, name: dns.name.Name) -> dns.name.Name:
    """Where a name's CNAMEs lead: many let one zone hold the challenges of all their domains."""
    for _ in range(_LONGEST_CHAIN):
        target = _alias(server, name)
        if target is None:
            return name
        name = target
    raise AcmeError(f"{_text(name)} is a CNAME without an end")


def _alias(server: Server, name: dns.name.Name) -> dns.name.Name | None:
    answer = ask(server, name, "CNAME")
    if answer.flags & dns.flags.AA:
        rrsets = answer.answer
    else:
        # The name's own zone is somewhere else.
        try:
            rrsets = (
                dns.resolver.Resolver()
                .resolve(name, "CNAME", lifetime=_ASK_TIMEOUT)
                .response.answer
            )
        except (dns.exception.DNSException, OSError):
            return None
    for rrset in rrsets:
        if rrset.rdtype == dns.rdatatype.CNAME and rrset.name == name:
            target: dns.name.Name = rrset[0].target
            return target
    return None


def _zone_of(server: Server, owner: dns.name.Name) -> dns.name.Name:
    name = owner
    while name != dns.name.root:
        answer = ask(server, name, "SOA")
        for rrset in answer.answer:
            if rrset.rdtype == dns.rdatatype.SOA and rrset.name == name:
                return name
        name = name.parent()
    raise AcmeError(f"the name server {server} has no zone that {_text(owner)} belongs to")


def _texts(answer: dns.message.Message, owner: dns.name.Name) -> set[str]:
    return {
        b"".join(record.strings).decode("ascii", "replace")
        for rrset in answer.answer
        if rrset.rdtype == dns.rdatatype.TXT and rrset.name == owner
        for record in rrset
    }


def _resolved(host: str) -> set[str]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError):
        return set()
    return {str(each[4][0]) for each in found}


def _text(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True)


def _words(error: Exception) -> str:
    return one_line(str(error)) or type(error).__name__
