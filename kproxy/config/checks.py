"""What a host, a path, a port or a header name may look like.

Each function takes what was written and returns it in its one canonical form. A ``ValueError`` is
the rest of a sentence about the value: ``should begin with a slash``.
"""

from __future__ import annotations

import ipaddress
import re

from kproxy.config.model import LETS_ENCRYPT, LETS_ENCRYPT_STAGING, Target

_LABELS = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(?:\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*")
_SERVER = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_PATH = re.compile(r"/[!-~]*")
_SERVICE = re.compile(r"[A-Za-z0-9_-]+")


def service_name(text: str) -> str:
    """Kamal's rule for ``service``."""
    if not _SERVICE.fullmatch(text):
        raise ValueError("should be letters, digits, dashes and underscores only")
    return text


def absolute_path(text: str) -> str:
    """A path that means the same wherever the proxy was started."""
    if not text.startswith("/"):
        raise ValueError("should be an absolute path")
    return text


def host(text: str) -> str:
    """A host that requests are routed by, perhaps with a wildcard for its first label."""
    name = text.lower().removesuffix(".")
    plain = name.removeprefix("*.")
    if not _LABELS.fullmatch(plain) or len(plain) > 253:
        raise ValueError(
            'should be a host name: letters, digits, dashes, dots, and "*." only at its beginning'
        )
    return name


def exact_host(text: str) -> str:
    """A host without a wildcard."""
    name = host(text)
    if name.startswith("*."):
        raise ValueError("should be one host, without a wildcard")
    return name


def path_prefix(text: str) -> str:
    """A prefix as the router takes it: one slash in front, none behind."""
    prefix = "/" + text.strip("/")
    segments = prefix.split("/")[1:]
    if not _PATH.fullmatch(prefix) or any(character in prefix for character in "?#%\\,"):
        raise ValueError(
            "should be a path of printable ASCII characters, without %, ?, #, comma or backslash"
        )
    if "." in segments or ".." in segments or ("" in segments and prefix != "/"):
        raise ValueError('should have no empty, "." or ".." segment')
    return prefix


def path(text: str) -> str:
    """A path on the target, perhaps with a query."""
    if not text.startswith("/"):
        raise ValueError("should begin with a slash")
    if not _PATH.fullmatch(text) or "#" in text:
        raise ValueError("should be printable ASCII characters without spaces or #")
    return text


def header_name(text: str) -> str:
    """RFC 9110 §5.1: a field name is a token."""
    if not _TOKEN.fullmatch(text):
        raise ValueError("should be the name of a header")
    return text


def url_or_path(text: str) -> str:
    """An http or https URL, or a path on the target."""
    if re.fullmatch(r"https?://[!-~]+", text) or (text.startswith("/") and _PATH.fullmatch(text)):
        return text
    raise ValueError("should be an http:// or https:// URL, or a path")


def acme_directory(text: str) -> str:
    """The URL of a CA's directory, which may go by its name."""
    named = {"letsencrypt": LETS_ENCRYPT, "staging": LETS_ENCRYPT_STAGING}
    if text in named:
        return named[text]
    # RFC 8555 section 6.1 has no other kind.
    if not re.fullmatch(r"https://[!-~]+", text):
        raise ValueError('should be an https:// URL, "letsencrypt", or "staging"')
    return text


def email(text: str) -> str:
    """An address as a CA takes it for a contact: one, plain."""
    if not re.fullmatch(r"[^\s@,;<>?]+@[^\s@,;<>?]+", text):
        raise ValueError("should be an email address")
    return text


def base64url(text: str) -> str:
    """RFC 4648 section 5; padding may be left out."""
    if not re.fullmatch(r"[A-Za-z0-9_-]+={0,2}", text):
        raise ValueError("should be base64url: letters, digits, - and _")
    return text


def address(text: str) -> str:
    """An IP address to listen on; IPv6 with or without brackets."""
    plain = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        return str(ipaddress.ip_address(plain))
    except ValueError:
        raise ValueError("should be an IP address") from None


def server(text: str) -> tuple[str, int | None]:
    """A server and, if one was written, its port; IPv6 stands in brackets.

    @return: the name or address without brackets, and the port or None.
    """
    name, port = text, None
    bracketed = re.fullmatch(r"\[([^\]]*)\](?::(.*))?", text)
    if bracketed:
        name, port = bracketed.groups()
        try:
            name = str(ipaddress.IPv6Address(name))
        except ValueError:
            raise ValueError("should have an IPv6 address between the brackets") from None
    elif "/" in text:
        raise ValueError("should be a host name or an address, perhaps with :PORT, and no URL")
    elif text.count(":") > 1:
        raise ValueError("should have brackets around an IPv6 address: [::1] or [::1]:3000")
    else:
        name, colon, after = text.partition(":")
        port = after if colon else None
        if not _SERVER.fullmatch(name):
            raise ValueError("should be a host name or an address, perhaps with :PORT")
    if port is None:
        return name, None
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise ValueError("should have a port from 1 to 65535")
    return name, int(port)


def server_name(text: str) -> str:
    """A server without a port; IPv6 with or without brackets."""
    try:
        return address(text)
    except ValueError:
        pass
    name, port = server(text)
    if port is not None:
        raise ValueError("should be a host name or an address, without a port")
    return name


def target(text: str, default_port: int) -> Target:
    """Like `server`, with the port that a server without its own one gets."""
    name, port = server(text)
    return Target(name, default_port if port is None else port)
