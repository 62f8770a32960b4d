"""May a name that nobody configured have a certificate? The application is asked (tls_on_demand_url).

Anybody can connect and ask for any name. So nonsense is refused unasked, answers are remembered, and
there is a limit to how many questions there are in a minute.
"""

from __future__ import annotations

import re
from collections import OrderedDict, deque
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol
from twisted.logger import Logger
from twisted.web.client import Agent, ResponseFailed
from twisted.web.http_headers import Headers
from twisted.web.iweb import IResponse

from kproxy.tls.acme.interfaces import NoCertificate

TIME_LIMIT = 2.0
ALLOWED_FOR = 3600.0
REFUSED_FOR = 300.0
"""Seconds that an answer is good for."""
REMEMBERED = 10_000
"""Answers; the oldest are forgotten first."""
QUESTIONS_PER_MINUTE = 300
"""For the application's sake."""
ORDERS_PER_MINUTE = 30
"""For the CA's: certificates for names that there was none for."""

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_log = Logger()


class Refused(NoCertificate):
    """The name may have no certificate."""


def check_name(name: str) -> None:
    """@raise Refused: no CA would issue a certificate for it: it is no DNS name of a host (RFC 1123
    section 2.1), in lower case, or a name within a network."""
    labels = name.split(".")
    if len(name) > 253 or len(labels) < 2 or not all(map(_LABEL.fullmatch, labels)):
        raise Refused("that is no host name")
    if labels[-1].isdigit() or _is_address(name):
        raise Refused("an address can't have a certificate")


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def question(url: str, name: str) -> str:
    """A URL with ``host=NAME`` in its query, behind what is there."""
    parts = urlsplit(url)
    query = f"{parts.query}&" if parts.query else ""
    asked = parts._replace(query=f"{query}host={quote(name, safe='')}", fragment="")
    return urlunsplit(asked if asked.path else asked._replace(path="/"))


class PerMinute:
    """Lets so many pass in any 60 seconds."""

    def __init__(self, most: int, clock: IReactorTime) -> None:
        self._most = most
        self._clock = clock
        self._passed: deque[float] = deque()

    def take(self) -> bool:
        """Whether one more may pass."""
        now = self._clock.seconds()
        while self._passed and self._passed[0] <= now - 60.0:
            self._passed.popleft()
        if len(self._passed) >= self._most:
            return False
        self._passed.append(now)
        return True


class Answers:
    """What was answered lately."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._until: OrderedDict[str, tuple[bool, float]] = OrderedDict()

    def get(self, name: str) -> bool | None:
        """Whether the name is allowed; None: that has to be asked."""
        answer = self._until.get(name)
        if answer is None or answer[1] <= self._clock.seconds():
            return None
        self._until.move_to_end(name)
        return answer[0]

    def put(self, name: str, allowed: bool) -> None:
        until = self._clock.seconds() + (ALLOWED_FOR if allowed else REFUSED_FOR)
        self._until[name] = (allowed, until)
        self._until.move_to_end(name)
        if len(self._until) > REMEMBERED:
            self._until.popitem(last=False)


class OnDemand:
    """Asks, and remembers."""

    def __init__(
        self, url: Callable[[str], str | None], reactor: Any, time_limit: float = TIME_LIMIT
    ) -> None:
        """@param url: where to ask for a name; None: nowhere, so that it is refused.
        @param time_limit: seconds from the question to the answer's status."""
        self._url = url
        self._reactor = reactor
        self._time_limit = time_limit
        self._agent = Agent(reactor)
        self._answers = Answers(reactor)
        self._questions = PerMinute(QUESTIONS_PER_MINUTE, reactor)

    def possible(self, name: str) -> bool:
        """Whether there is anybody to ask."""
        return self._url(name) is not None

    async def ask(self, name: str) -> None:
        """Return if a name may have a certificate.

        @raise Refused: it may not.
        @raise NoCertificate: there is no telling now.
        """
        check_name(name)
        url = self._url(name)
        if url is None:
            raise Refused("it is not one of ours")
        allowed = self._answers.get(name)
        if allowed is None:
            if not self._questions.take():
                raise NoCertificate("too many names are asked for")
            code = await self._status(url, name)
            allowed = code == 200
            self._answers.put(name, allowed)
            _log.info("certificate on demand for {name}: answer {code}", name=name, code=code)
        if not allowed:
            raise Refused("the application does not allow it")

    async def _status(self, url: str, name: str) -> int:
        try:
            response = await self._answer(question(url, name))
        except Exception as error:
            raise NoCertificate(f"the application could not be asked: {_why(error)}") from None
        response.deliverBody(_Hangup())  # only the status matters
        return int(response.code)

    async def _answer(self, url: str) -> IResponse:
        headers = Headers({b"user-agent": [b"kproxy"]})
        asked = self._agent.request(b"GET", url.encode("ascii"), headers)
        timer = self._reactor.callLater(self._time_limit, asked.cancel)
        try:
            return await asked
        except Exception as error:
            if timer.active():
                raise
            raise TimeoutError(f"no answer within {self._time_limit:g} s") from error
        finally:
            if timer.active():
                timer.cancel()


def _why(error: Exception) -> str:
    while isinstance(error, ResponseFailed) and error.reasons:
        error = error.reasons[0].value
    return str(error) or type(error).__name__


class _Hangup(Protocol):
    """Takes no body."""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.loseConnection()
