"""Which certificate a client gets, by the name it asks for. Pure: built once, and only read."""

from __future__ import annotations

from collections.abc import Iterable

from kproxy.snapshot import Certificate, TLSChallenge, TLSName


class Names:
    """The names that TLS is served for. Exact names beat wildcards, which match one label."""

    def __init__(
        self, names: Iterable[TLSName] = (), challenges: Iterable[TLSChallenge] = ()
    ) -> None:
        """@param names: the first serves clients that name no host."""
        self._by_name: dict[str, TLSName] = {}
        for name in names:
            self._by_name.setdefault(name.name, name)
        self._first = next(iter(self._by_name.values()), None)
        self._challenges = {challenge.name: challenge.certificate for challenge in challenges}

    def find(self, server_name: str) -> TLSName | None:
        """What serves a client; None: nothing may be shown to it.

        @param server_name: lower case, without a trailing dot; empty: the client names no host.
        """
        if not server_name:
            return self._first
        exact = self._by_name.get(server_name)
        if exact is not None:
            return exact
        _, dot, domain = server_name.partition(".")
        return self._by_name.get("*." + domain) if dot else None

    def challenge(self, server_name: str) -> Certificate | None:
        """What a CA gets that looks whether this name is ours (RFC 8737)."""
        return self._challenges.get(server_name)

    def certificates(self) -> set[Certificate]:
        """All that may be shown, those for challenges excepted."""
        return {n.certificate for n in self._by_name.values() if n.certificate is not None}

    def renewed_since(self, old: Names) -> dict[Certificate, Certificate]:
        """Certificates that have taken the place of others: the old one, and the new one."""
        renewed = {}
        for name, entry in self._by_name.items():
            before = old._by_name.get(name)
            if before is not None and before.certificate is not None and entry.certificate:
                renewed[before.certificate] = entry.certificate
        return {before: after for before, after in renewed.items() if before != after}
