"""Challenges that servers which share a store answer for each other.

Where several servers have one name, nobody knows at which of them a CA looks: Let's Encrypt looks from
several places, and DNS sends each where it likes. So who orders tells the others by way of the store
what is to be found, and gives them the time to read it, before the CA is told to look.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from txacme.interfaces import IResponder
from zope.interface import implementer

from kproxy.snapshot import HTTPChallenge, TLSChallenge
from kproxy.tls.acme.errors import AcmeError
from kproxy.tls.acme.interfaces import CertificateStore
from kproxy.tls.acme.keys import challenge_certificate

LOOK_EVERY = 1.0
"""Seconds between two looks at what others want to be found."""
SPREADING = 3.0
"""Seconds that others have to see it: two looks of theirs, and one for a store that is slow to tell."""
LIFE = 3600.0
"""Seconds after which a challenge is one that somebody left who died."""
NOTE = "challenge"
"""As what the store has it."""
_log = Logger()


@dataclass(frozen=True, slots=True)
class Challenge:
    """What a CA is to find at whichever server it looks; one at a time for each kind and name."""

    kind: str
    """``http-01`` or ``tls-alpn-01``."""
    name: str
    token: str
    key_authorization: str
    """No secret: whoever asks for the token gets it (RFC 8555 section 8.1)."""

    def note_name(self) -> str:
        return f"{self.kind}.{self.name}"

    def note(self, now: float) -> str:
        return json.dumps({**asdict(self), "until": now + LIFE})


def read_note(text: str, now: float) -> Challenge | None:
    """The challenge of a note; None: it is none, or one that somebody left who died."""
    try:
        fields = json.loads(text)
        until = float(fields.pop("until"))
        found = Challenge(**{key: str(value) for key, value in fields.items()})
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    return found if now < until else None


@implementer(IResponder)
class Announced:
    """A responder, of which the other servers answer the challenges too."""

    def __init__(
        self, responder: IResponder, store: CertificateStore, clock: Any, ours: set[Challenge]
    ) -> None:
        """@param ours: has the challenges that are to be found here as long as they are."""
        self.challenge_type = responder.challenge_type
        self._responder = responder
        self._store = store
        self._clock = clock
        self._ours = ours

    def start_responding(self, server_name: str, challenge: Any, response: Any) -> Deferred[None]:
        shared = self._shared(server_name, challenge, response)

        def started(_: object) -> Deferred[None]:
            self._ours.add(shared)
            note = shared.note(self._clock.seconds())
            written = self._store.write_note(NOTE, shared.note_name(), note)
            return written.addErrback(not_shared)

        def not_shared(failure: Failure) -> None:
            failure.trap(OSError)
            raise AcmeError(f"other servers can't be told of it: {failure.getErrorMessage()}")

        begun: Deferred[None] = maybeDeferred(
            self._responder.start_responding, server_name, challenge, response
        )
        begun.addCallback(started)
        return begun.addCallback(lambda _: deferLater(self._clock, SPREADING))

    def stop_responding(self, server_name: str, challenge: Any, response: Any) -> Deferred[None]:
        shared = self._shared(server_name, challenge, response)

        def removed(result: Any) -> Deferred[Any]:
            self._ours.discard(shared)
            stopped: Deferred[Any] = maybeDeferred(
                self._responder.stop_responding, server_name, challenge, response
            )
            return stopped.addCallback(lambda _: result)

        return self._store.remove_note(NOTE, shared.note_name()).addBoth(removed)

    def _shared(self, server_name: str, challenge: Any, response: Any) -> Challenge:
        token = challenge.encode("token")
        return Challenge(self.challenge_type, server_name, token, response.key_authorization)


class Neighbours:
    """What the other servers want to be found, as the store has it."""

    def __init__(
        self,
        store: CertificateStore,
        clock: Any,
        changed: Callable[[], object],
        ours: set[Challenge],
    ) -> None:
        """@param changed: called when there is something else to be found.
        @param ours: the challenges in the store that are not a neighbour's."""
        self._store = store
        self._clock = clock
        self._changed = changed
        self._ours = ours
        self._known: dict[Challenge, HTTPChallenge | TLSChallenge] = {}
        self._ill = False
        self._looking = LoopingCall(self._look)
        self._looking.clock = clock

    def http_challenges(self) -> tuple[HTTPChallenge, ...]:
        """What is to be found by http-01 now."""
        return tuple(each for each in self._known.values() if isinstance(each, HTTPChallenge))

    def tls_challenges(self) -> tuple[TLSChallenge, ...]:
        """What is to be found by tls-alpn-01 now."""
        return tuple(each for each in self._known.values() if isinstance(each, TLSChallenge))

    def start(self) -> None:
        """Look from now on."""
        self._looking.start(LOOK_EVERY)

    def stop(self) -> None:
        """Look no more."""
        if self._looking.running:
            self._looking.stop()

    def _look(self) -> Deferred[None]:
        looked = self._store.notes(NOTE).addCallbacks(self._found, self._failed)
        return looked.addErrback(
            lambda failure: _log.failure(
                "what other servers want a CA to find is not served", failure
            )
        )

    def _found(self, notes: Mapping[str, str]) -> None:
        if not self._looking.running:
            return
        self._ill = False
        now = self._clock.seconds()
        found = filter(None, (read_note(text, now) for text in notes.values()))
        theirs = [each for each in found if each not in self._ours]
        if set(theirs) != set(self._known):
            self._known = {each: self._known.get(each) or self._answer(each) for each in theirs}
            self._changed()

    def _failed(self, failure: Failure) -> None:
        if not self._ill:
            self._ill = True
            _log.error(
                "what other servers want a CA to find can't be read: {error}",
                error=failure.getErrorMessage(),
            )

    def _answer(self, challenge: Challenge) -> HTTPChallenge | TLSChallenge:
        if challenge.kind == "http-01":
            return HTTPChallenge(challenge.token, challenge.key_authorization)
        now = datetime.fromtimestamp(self._clock.seconds(), timezone.utc)
        proof = challenge_certificate(challenge.name, challenge.key_authorization, now)
        return TLSChallenge(challenge.name, proof)
