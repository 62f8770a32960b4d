"""What is asked: a request that nobody has sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from twisted.internet.address import IPv4Address, IPv6Address


class BadQuestion(ValueError):
    """It is no request; the text is a sentence."""


@dataclass(frozen=True)
class Question:
    """A request that somebody might send.

    @ivar url: ``http://`` or ``https://``; without a scheme it is HTTP.
    @ivar headers: a Content-Length stands for a body of that size.
    @ivar client: the address that it would come from.
    """

    url: str
    method: str = "GET"
    headers: Sequence[tuple[str, str]] = ()
    client: str = "127.0.0.1"

    def head(self) -> tuple[bytes, bool]:
        """The request's head as a client would write it, and whether it would come by TLS.

        @raise BadQuestion: there can be no such request.
        """
        try:
            parts = urlsplit(self.url if "://" in self.url else f"http://{self.url}")
            _ = parts.port
        except ValueError as error:
            raise BadQuestion(f'"{self.url}" is no URL: {error}') from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise BadQuestion(f'"{self.url}" is no http:// or https:// URL')
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        fields = list(self.headers)
        if not any(name.lower() == "host" for name, _ in fields):
            fields.insert(0, ("Host", parts.netloc.rpartition("@")[2]))
        lines = [f"{self.method} {target} HTTP/1.1", *(f"{name}: {v}" for name, v in fields)]
        if any(character in line for line in lines for character in "\r\n"):
            raise BadQuestion("method, URL and headers should be without line breaks")
        try:  # A command line's bytes that are no UTF-8 come as surrogates.
            text = "\r\n".join(lines).encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise BadQuestion("method, URL and headers should be text") from None
        return text, parts.scheme == "https"

    def address(self) -> IPv4Address | IPv6Address:
        """The client's.

        @raise BadQuestion: it is none.
        """
        try:
            version = ip_address(self.client).version
        except ValueError:
            raise BadQuestion(f'"{self.client}" is no IP address') from None
        return (IPv4Address if version == 4 else IPv6Address)("TCP", self.client, 0)
