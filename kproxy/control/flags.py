"""The options of a deployment, declared once: for the command line, the admin interface, the docs.

Names and meanings are kamal-proxy's. Each option knows how its value is checked, and what it
changes of a service. Values are what JSON has; the command line makes them of its texts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kproxy.config import checks
from kproxy.config.pages import Pages, read_pages
from kproxy.control.tls_flags import CERTIFICATE, PRIVATE_KEY

Kind = Literal["text", "path", "texts", "boolean", "integer", "duration"]


class BadFlag(ValueError):
    """An option or its value is wrong; the text is a sentence that names it."""


@dataclass(frozen=True, slots=True)
class Flag:
    """One option of ``deploy``."""

    name: str
    kind: Kind
    help: str
    field: str = ""
    """What it changes: the name of a field of `Service`, or ``part.field``."""
    check: Callable[[Any], Any] | None = None
    """Makes the field's value; raises ValueError with the rest of a sentence."""

    @property
    def key(self) -> str:
        """Its name in JSON."""
        return self.name.replace("-", "_")


def _each(check: Callable[[str], Any]) -> Callable[[list[str]], tuple[Any, ...]]:
    def checked(text: str) -> Any:
        try:
            return check(text)
        except ValueError as error:
            raise ValueError(f'{error}, is "{text}"') from None

    return lambda texts: tuple(dict.fromkeys(map(checked, texts)))


def _prefixes(texts: list[str]) -> tuple[str, ...]:
    return _each(checks.path_prefix)(texts) or ("/",)


def _targets(texts: list[str]) -> tuple[Any, ...]:
    if not texts:
        raise ValueError("should name a target")
    return _each(lambda text: checks.target(text, 80))(texts)


def _above_zero(seconds: float) -> float:
    if seconds <= 0:
        raise ValueError("should be more than 0")
    return seconds


def _port(number: int) -> int | None:
    if not 0 <= number <= 65535:
        raise ValueError("should be a port")
    return number or None


def _or_none(check: Callable[[str], str]) -> Callable[[str], str | None]:
    return lambda text: check(text) if text else None


def _pages(text: str) -> Pages:
    folder = Path(text)
    if text and not folder.is_absolute():
        raise ValueError("should be the whole path of a folder")
    return read_pages(folder) if text else ()


def _file(text: str) -> Path | None:
    if text and not Path(text).is_absolute():
        raise ValueError("should be a whole path")
    return Path(text) if text else None


FLAGS = (
    Flag("target", "texts", "Where requests go: HOST:PORT.", "targets", _targets),
    Flag(
        "read-target",
        "texts",
        "Where GET and HEAD requests go.",
        "read_targets",
        _each(lambda text: checks.target(text, 80)),
    ),
    Flag(
        "host",
        "texts",
        "Whose requests are served; none: those that no other service has.",
        "hosts",
        _each(checks.host),
    ),
    Flag("path-prefix", "texts", "Which paths are served; none: all.", "path_prefixes", _prefixes),
    Flag(
        "strip-path-prefix",
        "boolean",
        "Whether the target sees paths without it.",
        "strip_path_prefix",
    ),
    Flag("tls", "boolean", "Serve HTTPS; needs a host.", "ssl"),
    Flag(
        "tls-on-demand-url",
        "text",
        "Who is asked before a certificate is got: a URL, or a path on the service.",
        "tls_on_demand_url",
        _or_none(checks.url_or_path),
    ),
    Flag(
        "tls-staging",
        "boolean",
        "Take certificates of Let's Encrypt's CA for tests, which nobody trusts.",
        "tls_staging",
    ),
    Flag(CERTIFICATE, "path", "A certificate of your own: a PEM file, chain and all.", "", _file),
    Flag(PRIVATE_KEY, "path", "Its private key: a PEM file.", "", _file),
    Flag(
        "tls-acme-cache-path",
        "path",
        "The folder of this service's automatic certificates; none: acme in the state folder.",
        "acme_folder",
        _file,
    ),
    Flag(
        "tls-redirect",
        "boolean",
        "Redirect plain HTTP to HTTPS, where there is TLS.",
        "ssl_redirect",
    ),
    Flag(
        "canonical-host",
        "text",
        "Where requests for other hosts are sent.",
        "canonical_host",
        _or_none(checks.exact_host),
    ),
    Flag(
        "deploy-timeout",
        "duration",
        "How long targets have to become healthy.",
        "deploy_timeout",
        _above_zero,
    ),
    Flag("drain-timeout", "duration", "How long requests have to finish.", "drain_timeout"),
    Flag("force", "boolean", "Switch at once, without waiting for health checks."),
    Flag(
        "health-check-interval",
        "duration",
        "Time from one check to the next.",
        "healthcheck.interval",
        _above_zero,
    ),
    Flag(
        "health-check-timeout",
        "duration",
        "Time until a check has failed.",
        "healthcheck.timeout",
        _above_zero,
    ),
    Flag(
        "health-check-path",
        "text",
        "What is asked for; any 2xx answer is healthy.",
        "healthcheck.path",
        checks.path,
    ),
    Flag(
        "health-check-port",
        "integer",
        "The port of health checks; 0: the target's.",
        "healthcheck.port",
        _port,
    ),
    Flag(
        "health-check-host",
        "text",
        "The Host header of health checks.",
        "healthcheck.host",
        _or_none(checks.exact_host),
    ),
    Flag(
        "writer-affinity-timeout",
        "duration",
        "How long a writer reads what it wrote, where there are read targets.",
        "writer_affinity_timeout",
    ),
    Flag(
        "read-target-websockets",
        "boolean",
        "Send WebSockets to read targets.",
        "read_target_websockets",
    ),
    Flag(
        "target-timeout",
        "duration",
        "Time until a response has to begin.",
        "response_timeout",
        _above_zero,
    ),
    Flag(
        "buffer-requests",
        "boolean",
        "Collect a request body before it is passed on.",
        "buffering.requests",
    ),
    Flag(
        "buffer-responses",
        "boolean",
        "Collect a response body before it is passed on.",
        "buffering.responses",
    ),
    Flag("buffer-memory", "integer", "Bytes of a body held in memory.", "buffering.memory"),
    Flag(
        "max-request-body",
        "integer",
        "Bytes; past it the answer is 413. 0: no limit.",
        "buffering.max_request_body",
    ),
    Flag(
        "max-response-body",
        "integer",
        "Bytes; past it the answer is 500. 0: no limit.",
        "buffering.max_response_body",
    ),
    Flag("error-pages", "path", "A folder with 404.html and the like.", "error_pages", _pages),
    Flag(
        "log-request-header",
        "texts",
        "Request headers in the access log.",
        "logging.request_headers",
        _each(checks.header_name),
    ),
    Flag(
        "log-response-header",
        "texts",
        "Response headers in the access log.",
        "logging.response_headers",
        _each(checks.header_name),
    ),
    Flag(
        "exclude-metrics-path",
        "texts",
        "Paths that metrics don't count.",
        "exclude_metrics_paths",
        _each(checks.path),
    ),
    Flag("forward-headers", "boolean", "Keep X-Forwarded-* of the client.", "forward_headers"),
    Flag(
        "client-ip-header",
        "text",
        "The header that holds the client's address.",
        "client_ip_header",
        _or_none(checks.header_name),
    ),
    Flag(
        "scope-cookie-paths",
        "boolean",
        "Put the path prefix before cookie paths.",
        "scope_cookie_paths",
    ),
)

BY_KEY = {flag.key: flag for flag in FLAGS}
ROLLOUT_FLAGS = tuple(
    BY_KEY[key] for key in ("target", "read_target", "deploy_timeout", "drain_timeout")
)
"""The options of ``rollout deploy``; its targets are served with all the others of the service."""
