"""What a deploy.yml means: plain, immutable, comparable values (behaviour.md sections 1, 2 and 7).

Nothing here reads a file or knows YAML. Durations are seconds, sizes are bytes. Two services whose
values are equal behave the same, which is what a reload compares.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
MOST_WORKERS = 256

LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"
LETS_ENCRYPT_STAGING = "https://acme-staging-v02.api.letsencrypt.org/directory"
"""Its certificates are trusted by nobody, and its limits are wide: for a first try."""


@dataclass(frozen=True, slots=True)
class Target:
    """One ``HOST:PORT`` that a service forwards to."""

    host: str
    """A name or an address; IPv6 without brackets."""
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Healthcheck:
    """``proxy.healthcheck`` with ``x-kproxy.healthcheck_port`` and ``.healthcheck_host``."""

    path: str = "/up"
    interval: float = 1.0
    timeout: float = 5.0
    port: int | None = None
    """The target's own port when None."""
    host: str | None = None
    """The Host header of a check; the target's address when None."""


@dataclass(frozen=True, slots=True)
class Buffering:
    """``proxy.buffering``; a limit of 0 is no limit."""

    requests: bool = True
    responses: bool = True
    max_request_body: int = GIB
    max_response_body: int = 0
    memory: int = MIB


@dataclass(frozen=True, slots=True)
class Logging:
    """``proxy.logging``: names of headers that the access log shows."""

    request_headers: tuple[str, ...] = ("Cache-Control", "Last-Modified", "User-Agent")
    response_headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CertificateSecrets:
    """``proxy.ssl`` as a map: names of the secrets that hold PEM text, never the text itself."""

    certificate_pem: str
    private_key_pem: str


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """A certificate of one's own in files, as the command line names them."""

    certificate: Path
    private_key: Path


@dataclass(frozen=True, slots=True)
class WrapperUse:
    """One entry of ``x-kproxy.wrappers``: which wrapper, with which validated options."""

    name: str
    options: object
    """What the wrapper's own options schema made of the entry; compares by value."""


@dataclass(frozen=True, slots=True)
class Service:
    """Everything about one proxied service: where it is reached, and what is done on the way."""

    name: str
    targets: tuple[Target, ...]
    hosts: tuple[str, ...] = ()
    """Lower case, no port, no trailing dot; ``*.example.com`` for one label; empty: any host."""
    path_prefixes: tuple[str, ...] = ("/",)
    """Each begins with a slash; none but ``/`` ends with one."""
    strip_path_prefix: bool = True
    ssl: bool | CertificateSecrets | CertificateFiles = False
    ssl_redirect: bool = True
    forward_headers: bool = True
    response_timeout: float = 30.0
    healthcheck: Healthcheck = Healthcheck()
    buffering: Buffering = Buffering()
    logging: Logging = Logging()
    deploy_timeout: float = 30.0
    drain_timeout: float = 30.0
    error_pages: tuple[tuple[int, str], ...] = ()
    """Status and HTML of each page in the folder of ``error_pages_path``."""
    secrets_files: tuple[Path, ...] = ()
    """Where `ssl`'s secrets are looked up, later ones win; a file may be missing."""
    wrappers: tuple[WrapperUse, ...] = ()
    canonical_host: str | None = None
    client_ip_header: str | None = None
    scope_cookie_paths: bool = False
    tls_on_demand_url: str | None = None
    tls_staging: bool = False
    """Automatic certificates come from Let's Encrypt's CA for tests, whatever `Acme` says."""
    acme_folder: Path | None = None
    """Where its automatic certificates are kept; None: with those of all the others."""
    exclude_metrics_paths: tuple[str, ...] = ()
    read_targets: tuple[Target, ...] = ()
    writer_affinity_timeout: float = 3.0
    read_target_websockets: bool = False


@dataclass(frozen=True, slots=True)
class ExternalAccount:
    """``x-kproxy.acme.eab``: the account that a CA gave out of band."""

    key_id: str
    hmac_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Acme:
    """``x-kproxy.acme``: where and how automatic certificates are had."""

    directory: str = LETS_ENCRYPT
    email: str | None = None
    ca_file: Path | None = None
    challenges: tuple[str, ...] = ("http-01", "tls-alpn-01")
    eab: ExternalAccount | None = None
    dns: WrapperUse | None = None
    """The DNS-01 responder, named and configured as a wrapper is; None: DNS-01 can't be used."""
    store: WrapperUse | None = None
    """The store that servers share, named and configured in the same way; None: a folder of our own."""
    secrets_files: tuple[Path, ...] = ()
    """Where the secrets of both are looked up, as `Service.secrets_files`; none without either."""


@dataclass(frozen=True, slots=True)
class Run:
    """How kproxy listens: ``proxy.run``, below the command line and the environment."""

    http_port: int = 80
    https_port: int | None = None
    """None: not said."""
    metrics_port: int | None = None
    bind_ips: tuple[str, ...] = ()
    """Addresses; empty: all of them, IPv4 and IPv6."""
    debug: bool = False


@dataclass(frozen=True, slots=True)
class Configuration:
    """All the files of one proxy, understood."""

    services: tuple[Service, ...] = ()
    run: Run = Run()
    acme: Acme = Acme()
    access_log: Path | None = None
    """None: standard output."""
    workers: int | Literal["auto"] | None = None
    """None: not said."""
