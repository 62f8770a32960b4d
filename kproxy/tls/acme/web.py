"""Requests to a CA over HTTPS, bounded in time and size (RFC 8555 section 6.1)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL
from service_identity import VerificationError
from treq.client import HTTPClient
from treq.content import collect
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.ssl import Certificate, platformTrust, trustRootFromCertificates
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS, HTTPConnectionPool
from twisted.web.http import RESPONSES
from twisted.web.http_headers import Headers

from kproxy import __version__
from kproxy.tls.acme.errors import AcmeError, BadAnswer, Unreachable, one_line

_LARGEST = 1 << 20
_REDIRECTS = 5
# A connection that the CA has meanwhile closed would fail a request that can't be repeated.
_IDLE = 10

_URL = re.compile(r"https://[!-~]+")
_LINK = re.compile(r"<([^<>]*)>((?:[^,\"<]|\"[^\"]*\")*)")
_RELATION = re.compile(r";\s*rel\s*=\s*(?:\"([^\"]*)\"|([^\s;,\"]+))", re.IGNORECASE)


class TooLarge(Exception):
    """An answer is larger than anything that a CA has to say."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    url: str
    """Where it is from, in the end."""
    status: int
    headers: Headers
    body: bytes

    def header(self, name: str) -> str | None:
        values = self.headers.getRawHeaders(name)
        return values[0] if values else None

    def json(self) -> dict[str, Any]:
        """The body, which has to be a JSON object.

        @raise BadAnswer: it is not.
        """
        try:
            document = json.loads(self.body)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise BadAnswer(f"{host_of(self.url)} answered something that is not a JSON object")
        return document

    def location(self) -> str:
        """The URL of what was made or found.

        @raise BadAnswer: there is none, or not an https one.
        """
        return https_url(urljoin(self.url, self.header("location") or ""), "Location")

    def links(self, relation: str) -> list[str]:
        """The https URLs of this relation."""
        found = links(self.headers.getRawHeaders("link", []), relation)
        urls = (urljoin(self.url, each) for each in found)
        return [url for url in urls if _URL.fullmatch(url)]

    @property
    def retry_after(self) -> float | None:
        """Seconds after which to come again; None: it does not say."""
        return seconds_until(self.header("retry-after"), self.header("date"))

    def phrase(self) -> str:
        """The status in words."""
        name = RESPONSES.get(self.status, b"").decode()
        return f"{self.status} {name}".strip()


class Web:
    """The way to a CA, and to all that its directory names."""

    def __init__(
        self,
        reactor: Any,
        *,
        ca_file: Path | None = None,
        time_limit: float = 30.0,
        http: HTTPClient | None = None,
    ) -> None:
        """
        @param ca_file: PEM certificates to trust in place of the system's.
        @param time_limit: seconds that one request may take, its answer included.
        @param http: another way to send requests.
        @raise AcmeError: `ca_file` can't be used.
        """
        self._reactor = reactor
        self._time_limit = time_limit
        self._pool = HTTPConnectionPool(reactor)
        self._pool.cachedConnectionTimeout = _IDLE
        if http is None:
            trust = platformTrust() if ca_file is None else _trusting(ca_file)
            policy = BrowserLikePolicyForHTTPS(trust)
            agent = Agent(reactor, policy, connectTimeout=time_limit, pool=self._pool)
            http = HTTPClient(agent)
        self._http = http

    async def get(self, url: str) -> Answer:
        """GET, following redirects to other https URLs."""
        for _ in range(_REDIRECTS + 1):
            answer = await self.request("GET", url)
            if answer.status not in (301, 302, 303, 307, 308):
                return answer
            url = answer.location()
        raise BadAnswer(f"{host_of(url)} redirects without an end")

    async def request(
        self, method: str, url: str, body: bytes | None = None, accept: str | None = None
    ) -> Answer:
        """One request. A redirect is an answer like any other: what is signed is signed for one URL.

        @raise Unreachable: there was no answer within the limits of time and size.
        """
        request = Deferred.fromCoroutine(self._request(method, url, body, accept))
        request.addTimeout(self._time_limit, self._reactor)
        try:
            return await request
        except (AcmeError, CancelledError):
            raise
        except Exception as error:
            raise Unreachable(f"{host_of(url)} {self._sentence(error)}") from None

    async def close(self) -> None:
        """Close idle connections."""
        await self._pool.closeCachedConnections()

    async def _request(
        self, method: str, url: str, body: bytes | None, accept: str | None
    ) -> Answer:
        headers = Headers({"User-Agent": [f"kproxy/{__version__}"], "Accept-Language": ["en"]})
        if accept is not None:
            headers.addRawHeader("Accept", accept)
        if body is not None:
            headers.addRawHeader("Content-Type", "application/jose+json")
        try:
            response = await self._http.request(
                method,
                url,
                headers=headers,
                data=body,
                allow_redirects=False,
                unbuffered=True,
                reactor=self._reactor,
            )
        except Exception as error:
            # Twisted wraps what comes of cancelling, so that a time-out would not be seen as one.
            if any(isinstance(each, CancelledError) for each in _causes(error)):
                raise CancelledError from None
            raise
        pieces = bytearray()

        def take(data: bytes) -> None:
            pieces.extend(data)
            if len(pieces) > _LARGEST:
                raise TooLarge

        await collect(response, take)
        return Answer(url, response.code, response.headers, bytes(pieces))

    def _sentence(self, error: Exception) -> str:
        """The rest of a sentence about whoever was asked."""
        if isinstance(error, DeferredTimeout):
            return f"did not answer within {self._time_limit:g} s"
        if isinstance(error, TooLarge):
            return f"answered more than {_LARGEST} bytes"
        for each in _causes(error):
            if isinstance(each, VerificationError):
                return "has a TLS certificate for another name"
            if isinstance(each, SSL.Error):
                return _tls_sentence(each)
        causes = list(_causes(error))
        return f"can't be reached: {one_line(str(causes[-1])) or type(causes[-1]).__name__}"


def https_url(text: object, what: str) -> str:
    """A URL that a CA gave.

    @param what: where, for the message.
    @raise BadAnswer: it is not an https URL.
    """
    if isinstance(text, str) and _URL.fullmatch(text):
        try:
            if urlsplit(text).hostname:
                return text
        except ValueError:
            pass
    raise BadAnswer(f"{what} should be an https URL, is {one_line(str(text))!r}")


def host_of(url: str) -> str:
    """The host and port of a URL, for messages."""
    return urlsplit(url).netloc.rpartition("@")[2]


def links(values: Sequence[str], relation: str) -> list[str]:
    """The targets of Link header fields (RFC 8288) that have a relation, in their order."""
    found = []
    for target, parameters in _LINK.findall(",".join(values)):
        match = _RELATION.search(parameters)
        relations = (match[1] or match[2] or "").lower().split() if match else []
        if relation in relations:
            found.append(target)
    return found


def seconds_until(retry_after: str | None, date: str | None) -> float | None:
    """A Retry-After field (RFC 9110 section 10.2.3) in seconds, at least 0.

    A date is taken relative to the response's own Date, so that our clock does not matter.

    @return: None: it says nothing that can be understood.
    """
    if retry_after is None:
        return None
    text = retry_after.strip()
    if re.fullmatch("[0-9]{1,9}", text):
        return float(text)
    try:
        until = parsedate_to_datetime(text) - parsedate_to_datetime(date or "")
    except (TypeError, ValueError):
        return None
    return max(0.0, until.total_seconds())


def _trusting(ca_file: Path) -> Any:
    try:
        text = ca_file.read_bytes()
    except OSError as error:
        raise AcmeError(f"{ca_file} can't be read: {error.strerror}") from None
    try:
        found = x509.load_pem_x509_certificates(text)
    except ValueError:
        raise AcmeError(f"{ca_file} does not hold certificates in PEM") from None
    return trustRootFromCertificates(
        [Certificate.loadPEM(each.public_bytes(Encoding.PEM)) for each in found]
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception, and those that Twisted wrapped in it."""
    yield error
    for failure in getattr(error, "reasons", None) or ():
        yield from _causes(failure.value)


def _tls_sentence(error: SSL.Error) -> str:
    reasons = [reason for *_, reason in error.args[0]] if error.args else []
    said = ", ".join(map(str, reasons)) or "TLS failed"
    if "verify failed" in said:
        return f"has a TLS certificate that is not trusted ({one_line(said)}); see acme.ca_file"
    return f"can't be reached: {one_line(said)}"
