"""DNS-01: what every responder needs, and how the one of a configuration is made."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from kproxy.config.model import Acme
from kproxy.config.secrets import read_secrets
from kproxy.interfaces import IDNSResponderPlugin
from kproxy.threads import InThread, result_of
from kproxy.tls.acme.errors import AcmeError
from kproxy.tls.acme.jws import b64

if TYPE_CHECKING:
    from txacme.interfaces import IResponder


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a plug-in may use of kproxy."""

    reactor: Any
    in_thread: InThread
    """For calls that block; `kproxy.threads.result_of` makes a Deferred of one."""
    secret: Callable[[str], Deferred[str]]
    """The content of a secret by its name; fails with `kproxy.config.secrets.SecretsError`."""


def record_name(server_name: str) -> str:
    """Where the CA looks for a TXT record (RFC 8555 section 8.4); no dot at its end."""
    return f"_acme-challenge.{server_name}"


def record_value(response: Any) -> str:
    """What the CA wants to find there.

    @param response: what a responder's `start_responding` is given.
    """
    return b64(hashlib.sha256(response.key_authorization.encode()).digest())


def secrets_of(acme: Acme, in_thread: InThread) -> Callable[[str], Deferred[str]]:
    """What looks up secrets for plug-ins of a configuration."""

    def secret(name: str) -> Deferred[str]:
        return result_of(lambda: read_secrets(acme.secrets_files, os.environ)[name], in_thread)

    return secret


def make_dns_responder(
    acme: Acme,
    reactor: Any,
    in_thread: InThread,
    responders: Mapping[str, IDNSResponderPlugin] | None = None,
) -> IResponder | None:
    """The responder that ``x-kproxy.acme.dns`` names; None: it names none.

    @param responders: those that there are; by default, those that are installed.
    @raise AcmeError: it is not installed any more, or can't be made.
    """
    if acme.dns is None:
        return None
    if responders is None:
        from kproxy.plugins import find_dns_responders

        responders = find_dns_responders()
    plugin = responders.get(acme.dns.name)
    if plugin is None:
        raise AcmeError(f'there is no DNS-01 responder "{acme.dns.name}"')

    around = Surroundings(reactor, in_thread, secrets_of(acme, in_thread))
    try:
        return plugin.responder(acme.dns.options, around)
    except AcmeError:
        raise
    except Exception as error:  # A third party's; its text may quote an option.
        raise AcmeError(
            f'the DNS-01 responder "{acme.dns.name}" can\'t be made: {type(error).__name__}'
        ) from error
