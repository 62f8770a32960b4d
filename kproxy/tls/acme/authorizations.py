"""Show a CA that names are ours (RFC 8555 sections 7.5 and 8).

1. Every authorization of the order is read; one that is valid needs nothing.
2. For each of the others a challenge is chosen: the first responder whose type the CA offers.
3. All responders are started, and only then is the CA told to look. So one that can't be started
   does not cost a failed validation, which CAs count.
4. Whatever happens, cancellation included, those that were started are stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from acme.challenges import Challenge
from twisted.internet.defer import CancelledError, Deferred, DeferredList, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from kproxy.tls.acme.errors import AcmeError, BadAnswer, ChallengeFailed, one_line, words_of
from kproxy.tls.acme.session import Session
from kproxy.tls.acme.web import https_url

if TYPE_CHECKING:
    from txacme.interfaces import IResponder

log = Logger()

_UNDECIDED = frozenset(("pending", "processing"))
_FAILED = "the CA could not validate"


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One name, and how it is to be shown that it is ours."""

    name: str
    """As it will stand in the certificate."""
    server_name: str
    """The same without a wildcard."""
    url: str
    """Of the authorization."""
    responder: IResponder
    challenge: Any
    response: Any
    challenge_url: str
    begun: bool
    """Whether the CA was told to look before, so that telling it again would be refused."""


async def authorize(
    session: Session, urls: Sequence[str], responders: Sequence[IResponder], limit: float
) -> None:
    """Make all authorizations of an order valid.

    @param limit: seconds that the CA's looking may take.
    @raise ChallengeFailed: with the reasons for each name.
    """
    attempts = []
    refused: list[tuple[str, str]] = []
    for url in urls:
        document = (await session.post(url, None)).json()
        if document.get("status") == "valid":
            continue
        try:
            attempts.append(_choose(session, url, document, responders))
        except ChallengeFailed as error:
            refused += error.subproblems
    _raise(refused)
    started: list[_Attempt] = []
    try:
        _raise(await _start_all(attempts, started))
        for attempt in attempts:
            if not attempt.begun:
                await session.post(attempt.challenge_url, {})
        for attempt in attempts:
            refused += await _outcome(session, attempt, limit)
        _raise(refused)
    finally:
        await _settled([_stop(attempt) for attempt in started])


def _choose(
    session: Session, url: str, document: dict[str, Any], responders: Sequence[IResponder]
) -> _Attempt:
    identifier = document.get("identifier")
    server_name = identifier.get("value") if isinstance(identifier, dict) else None
    offered = document.get("challenges")
    if not isinstance(server_name, str) or not isinstance(offered, list):
        raise BadAnswer("the CA sent an authorization without a name or challenges")
    name = f"*.{server_name}" if document.get("wildcard") is True else server_name
    if document.get("status") != "pending":
        _raise([(name, _why(document))])
    by_type = {each.get("type"): each for each in offered if isinstance(each, dict)}
    for responder in responders:
        found = by_type.get(responder.challenge_type)
        if found is not None:
            challenge = _challenge(found)
            return _Attempt(
                name=name,
                server_name=server_name,
                url=url,
                responder=responder,
                challenge=challenge,
                response=challenge.response(session.key.jwk),
                challenge_url=https_url(found.get("url"), "a challenge"),
                begun=found.get("status") != "pending",
            )
    theirs = ", ".join(sorted(str(each) for each in by_type)) or "nothing"
    ours = ", ".join(each.challenge_type for each in responders) or "nothing"
    raise ChallengeFailed(
        "no challenge that can be answered",
        subproblems=((name, f"the CA offers {theirs}; set up: {ours}"),),
    )


def _challenge(found: dict[str, Any]) -> Any:
    """What responders know a challenge as."""
    try:
        return Challenge.from_json({"type": found["type"], "token": found["token"]})
    except Exception:  # josepy's errors, and whatever a field of the wrong type leads to.
        raise BadAnswer("the CA sent a challenge that makes no sense") from None


async def _start_all(
    attempts: Sequence[_Attempt], started: list[_Attempt]
) -> list[tuple[str, str]]:
    """Start all responders, side by side.

    @param started: takes those that are to be stopped: also those that failed half-way.
    @return: what went wrong.
    """

    def start(attempt: _Attempt) -> Deferred[Any]:
        started.append(attempt)
        return _call(attempt.responder.start_responding, attempt)

    results = await _settled([start(each) for each in attempts])
    return [
        (attempt.name, f"{attempt.responder.challenge_type} can't be answered: {_reason(failure)}")
        for attempt, failure in zip(attempts, results, strict=True)
        if failure is not None
    ]


async def _outcome(session: Session, attempt: _Attempt, limit: float) -> list[tuple[str, str]]:
    what = f"the CA did not look at {attempt.name}"
    document = (await session.poll(attempt.url, _UNDECIDED, limit, what)).json()
    return [] if document.get("status") == "valid" else [(attempt.name, _why(document))]


def _stop(attempt: _Attempt) -> Deferred[Any]:
    def failed(failure: Failure) -> None:
        # What is left behind does no harm that would be worth a certificate.
        log.warn(
            "{type} for {name} could not be cleaned up: {reason}",
            type=attempt.responder.challenge_type,
            name=attempt.name,
            reason=_reason(failure),
        )

    return _call(attempt.responder.stop_responding, attempt).addErrback(failed)


def _call(method: Callable[[str, Any, Any], Any], attempt: _Attempt) -> Deferred[Any]:
    return maybeDeferred(method, attempt.server_name, attempt.challenge, attempt.response)


async def _settled(results: Sequence[Deferred[Any]]) -> list[Failure | None]:
    """Wait until all have ended, however they do; when cancelled, they are too, and waited for."""
    ended: list[tuple[bool, Any]] = await DeferredList(results, consumeErrors=True)
    failures = [None if succeeded else result for succeeded, result in ended]
    for failure in failures:
        # A DeferredList that is cancelled fires as if nothing had happened.
        if failure is not None and failure.check(CancelledError):
            failure.raiseException()
    return failures


def _why(document: dict[str, Any]) -> str:
    """The CA's own words about an authorization that is not valid, nor will be."""
    listed = document.get("challenges")
    for each in listed if isinstance(listed, list) else ():
        if isinstance(each, dict) and isinstance(each.get("error"), dict):
            return words_of(each["error"])
    return f"the authorization is {one_line(str(document.get('status')))}"


def _reason(failure: Failure) -> str:
    if isinstance(failure.value, AcmeError):
        return str(failure.value)
    # The code of a third party, whose messages may quote what is secret. The log is for its author.
    log.failure("a responder failed", failure)
    return type(failure.value).__name__


def _raise(refused: Sequence[tuple[str, str]]) -> None:
    if refused:
        raise ChallengeFailed(_FAILED, subproblems=tuple(refused))
