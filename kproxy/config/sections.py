"""Every section of a deploy.yml that kproxy reads, declared (behaviour.md sections 1, 2 and 7).

The texts here are also what the reference documentation is made of.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kproxy.config import checks
from kproxy.config.model import (
    MOST_WORKERS,
    Acme,
    Buffering,
    CertificateSecrets,
    ExternalAccount,
    Healthcheck,
    Logging,
    Run,
)
from kproxy.config.schema import (
    Anything,
    Boolean,
    Checked,
    Choice,
    CommaList,
    Integer,
    ListOf,
    MapOf,
    OneOf,
    Option,
    Seconds,
    Section,
    Text,
    Type,
)

PORT = Integer(minimum=1, maximum=65535)
SIZE = Integer(minimum=0)
HOST = Checked(Text(), checks.host, description="a host name")
EXACT_HOST = Checked(Text(), checks.exact_host, description="a host name")
PREFIX = Checked(Text(), checks.path_prefix, description="a path prefix")
PATH = Checked(Text(), checks.path, description="a path")
HEADER = Checked(Text(), checks.header_name, description="the name of a header")
SERVER = Checked(Text(), checks.server, description="HOST or HOST:PORT")
SERVER_NAME = Checked(Text(), checks.server_name, description="a host name or an address")
ADDRESS = Checked(Text(), checks.address, description="an IP address")
DIRECTORY = Checked(Text(), checks.acme_directory, description="a URL, letsencrypt or staging")
EMAIL = Checked(Text(), checks.email, description="an email address")
URL_OR_PATH = Checked(Text(), checks.url_or_path, description="a URL or a path")


@dataclass(frozen=True, slots=True)
class ProxyOptions:
    """A ``proxy`` section, for itself. None: not written."""

    host: tuple[str, ...] | None = None
    hosts: tuple[str, ...] | None = None
    app_port: int = 80
    ssl: bool | CertificateSecrets = False
    ssl_redirect: bool = True
    forward_headers: bool | None = None
    response_timeout: float = 30.0
    path_prefix: tuple[str, ...] | None = None
    path_prefixes: tuple[str, ...] | None = None
    strip_path_prefix: bool = True
    healthcheck: Healthcheck = field(default_factory=Healthcheck)
    buffering: Buffering = field(default_factory=Buffering)
    logging: Logging = field(default_factory=Logging)
    run: Run | None = None

    @property
    def all_hosts(self) -> tuple[str, ...]:
        """Each host once, however they were written."""
        return tuple(dict.fromkeys(self.host or self.hosts or ()))

    @property
    def all_prefixes(self) -> tuple[str, ...]:
        """Each path prefix once, however they were written."""
        return tuple(dict.fromkeys(self.path_prefix or self.path_prefixes or ("/",)))


@dataclass(frozen=True, slots=True)
class Certificate:
    """``ssl`` as a map: both, or neither."""

    certificate_pem: str | None = None
    private_key_pem: str | None = None


def _certificate_secrets(pair: Certificate) -> bool | CertificateSecrets:
    if pair.certificate_pem is None or pair.private_key_pem is None:
        # To Ruby, and so to Kamal, an empty map is as good as true.
        return True
    return CertificateSecrets(pair.certificate_pem, pair.private_key_pem)


_CERTIFICATE = Section(
    Option("certificate_pem", Text(), help="Name of the secret that holds the certificate chain."),
    Option("private_key_pem", Text(), help="Name of the secret that holds the private key."),
    into=Certificate,
    together=(("certificate_pem", "private_key_pem"),),
)

HEALTHCHECK = Section(
    Option("path", PATH, help="What is asked for; any 2xx answer is healthy."),
    Option("interval", Seconds(above=0), help="Seconds from one check to the next."),
    Option("timeout", Seconds(above=0), help="Seconds until a check has failed."),
    into=Healthcheck,
)


def _buffering(**values: Any) -> Buffering:
    if not values.get("requests", True):
        # Who lets bodies stream did not ask for a limit by saying so.
        values.setdefault("max_request_body", 0)
    return Buffering(**values)


BUFFERING = Section(
    Option("requests", Boolean(), help="Collect a request body before it is passed on."),
    Option("responses", Boolean(), help="Collect a response body before it is passed on."),
    Option(
        "max_request_body",
        SIZE,
        help="Bytes; past it the answer is 413. 0: no limit, as is the default without `requests`.",
    ),
    Option("max_response_body", SIZE, help="Bytes; past it the answer is 500. 0: no limit."),
    Option("memory", SIZE, help="Bytes of a body held in memory; the rest goes to a file."),
    into=_buffering,
    defaults=Buffering,
)

LOGGING = Section(
    Option("request_headers", ListOf(HEADER), help="Request headers in the access log."),
    Option("response_headers", ListOf(HEADER), help="Response headers in the access log."),
    into=Logging,
)

# What kamal-proxy's container is started with, and what means nothing without Docker.
_DOCKER_ONLY = ("http3", "log_max_size", "options", "publish", "registry", "repository", "version")


def _run(**values: Any) -> Run:
    return Run(**{key: value for key, value in values.items() if key not in _DOCKER_ONLY})


RUN = Section(
    Option("http_port", PORT, help="Where HTTP is listened for."),
    Option("https_port", PORT, help="Where HTTPS is listened for."),
    Option("metrics_port", PORT, help="Where metrics are served; none: nowhere."),
    Option("bind_ips", ListOf(ADDRESS), help="Addresses to listen on; none: all."),
    Option("debug", Boolean(), help="Log what helps to find a fault."),
    *(Option(name, Anything(), help="Ignored: for Docker only.") for name in _DOCKER_ONLY),
    into=_run,
    defaults=Run,
)

SSL: Type[bool | CertificateSecrets] = OneOf(
    bool=Boolean(),
    map=Checked(_CERTIFICATE, _certificate_secrets, description="a map of two secrets"),
)

PROXY = Section(
    Option(
        "host",
        CommaList(HOST),
        help="Whose requests are served; none: those that no other service has.",
    ),
    Option("hosts", ListOf(HOST), help="The same, as a list."),
    Option("app_port", PORT, help="The port of a server that has none of its own."),
    Option("ssl", SSL, help="Certificates: automatic, or two secrets."),
    Option("ssl_redirect", Boolean(), help="Redirect plain HTTP to HTTPS, where there is ssl."),
    Option("forward_headers", Boolean(), help="Keep X-Forwarded-*; by default only without ssl."),
    Option("response_timeout", Seconds(above=0), help="Seconds until a response has to begin."),
    Option("path_prefix", CommaList(PREFIX), help="Which paths are served; none: all."),
    Option("path_prefixes", CommaList(PREFIX), help="The same."),
    Option("strip_path_prefix", Boolean(), help="Whether the target sees paths without it."),
    Option("healthcheck", HEALTHCHECK, help="How a target shows that it is healthy."),
    Option("buffering", BUFFERING, help="Which bodies are collected, up to which size."),
    Option("logging", LOGGING, help="Which headers the access log shows."),
    Option("run", RUN, help="How the proxy listens."),
    into=ProxyOptions,
    either=(("host", "hosts"), ("path_prefix", "path_prefixes")),
)


@dataclass(frozen=True, slots=True)
class Extras:
    """What ``x-kproxy`` says for a role, but for its wrappers. None: not written."""

    canonical_host: str | None = None
    client_ip_header: str | None = None
    scope_cookie_paths: bool = False
    tls_on_demand_url: str | None = None
    exclude_metrics_paths: tuple[str, ...] = ()
    healthcheck_port: int | None = None
    healthcheck_host: str | None = None
    targets: tuple[tuple[str, int | None], ...] | None = None
    read_targets: tuple[tuple[str, int | None], ...] = ()
    writer_affinity_timeout: float = 3.0
    wrappers: None = None


@dataclass(frozen=True, slots=True)
class AcmeOptions:
    """``x-kproxy.acme``, but for its plug-ins."""

    directory: str = Acme().directory
    email: str | None = None
    ca_file: str | None = None
    challenges: tuple[str, ...] = Acme().challenges
    eab: ExternalAccount | None = None
    dns: None = None
    store: None = None


_EAB = Section(
    Option("key_id", Text(), required=True, help="The account's name at the CA."),
    Option(
        "hmac_key",
        Checked(Text(secret=True), checks.base64url, description="text"),
        required=True,
        help="Its key, as the CA gave it: base64url.",
    ),
    into=ExternalAccount,
)

ACME = Section(
    Option("directory", DIRECTORY, help="Where the CA's directory is; staging: Let's Encrypt's."),
    Option("email", EMAIL, help="Whom the CA may write to."),
    Option("ca_file", Text(), help="PEM file of whom to trust as the CA's own server."),
    Option(
        "challenges",
        ListOf(Choice("http-01", "tls-alpn-01", "dns-01")),
        help="How to show that a host is ours, in order of preference.",
    ),
    Option("eab", _EAB, help="The account that the CA gave out of band."),
    Option("dns", Anything(), help="The DNS-01 responder: NAME, or NAME: {options}."),
    Option("store", Anything(), help="What servers share certificates by; none: they don't."),
    into=AcmeOptions,
)

_FOR_A_ROLE = (
    Option("wrappers", Anything(), help="A list of NAME or NAME: {options}, outermost first."),
    Option("canonical_host", EXACT_HOST, help="Where requests for other hosts are sent."),
    Option("client_ip_header", HEADER, help="The header that holds the client's address."),
    Option("scope_cookie_paths", Boolean(), help="Put the path prefix before cookie paths."),
    Option("tls_on_demand_url", URL_OR_PATH, help="Who is asked before a certificate is got."),
    Option("exclude_metrics_paths", ListOf(PATH), help="Paths that the metrics don't count."),
    Option("healthcheck_port", PORT, help="The port of health checks; none: the target's."),
    Option("healthcheck_host", EXACT_HOST, help="The Host header of health checks."),
    Option("targets", ListOf(SERVER), help="Where requests go, in place of the role's hosts."),
    Option("read_targets", ListOf(SERVER), help="Where GET and HEAD requests go."),
    Option("writer_affinity_timeout", Seconds(minimum=0), help="How long a writer reads there."),
)

_FOR_ALL = (
    Option("acme", ACME, help="Where automatic certificates come from."),
    Option("access_log", Text(), help="The file of the access log; none: standard output."),
    Option(
        "workers",
        OneOf(int=Integer(minimum=0, maximum=MOST_WORKERS), str=Choice("auto")),
        help="How many processes serve; auto: one for each CPU; 0: the one that does all.",
    ),
)

EXTRAS = Section(*_FOR_A_ROLE, into=Extras)
"""What may stand under ``x-kproxy.roles.ROLE``."""

_ROLES = Option("roles", MapOf(EXTRAS), help="The same keys again, each for one role.")

X_KPROXY = Section(*_FOR_A_ROLE, *_FOR_ALL, _ROLES)
"""What may stand under ``x-kproxy``."""

NOT_FOR_A_ROLE = frozenset(option.name for option in (*_FOR_ALL, _ROLES))


@dataclass(frozen=True, slots=True)
class Top:
    """The keys of the file itself that kproxy reads, but for those with a module of their own."""

    service: str = ""
    primary_role: str = "web"
    deploy_timeout: float = 30.0
    drain_timeout: float = 30.0
    error_pages_path: str | None = None
    secrets_path: str = ".kamal/secrets"
    allow_empty_roles: bool = False


_READ_ELSEWHERE = ("accessories", "proxy", "servers", "x-kproxy")

# All that Kamal's own documentation of the file lists beyond what kproxy reads.
_KAMAL_ONLY = (
    "aliases",
    "asset_path",
    "boot",
    "builder",
    "env",
    "hooks_output",
    "hooks_path",
    "image",
    "labels",
    "logging",
    "minimum_version",
    "output",
    "readiness_delay",
    "registry",
    "require_destination",
    "retain_containers",
    "run_directory",
    "ssh",
    "sshkit",
    "volumes",
)


def _top(**values: Any) -> Top:
    ignored = (*_READ_ELSEWHERE, "x_kproxy", *_KAMAL_ONLY)
    return Top(**{key: value for key, value in values.items() if key not in ignored})


TOP = Section(
    Option(
        "service",
        Checked(Text(), checks.service_name),
        required=True,
        help="The application; every proxied service's name begins with it.",
    ),
    Option("primary_role", Text(), help="The role that is proxied by default."),
    Option("deploy_timeout", Seconds(above=0), help="Seconds that targets have to become healthy."),
    Option("drain_timeout", Seconds(minimum=0), help="Seconds that requests have to finish."),
    Option("error_pages_path", Text(), help="A folder with 404.html and the like."),
    Option("secrets_path", Text(), help="Where ssl's secrets are."),
    Option("allow_empty_roles", Boolean(), help="Skip a role without hosts."),
    *(Option(name, Anything()) for name in (*_READ_ELSEWHERE, *_KAMAL_ONLY)),
    into=_top,
    defaults=Top,
)

ROLE = Section(
    *(
        Option(name, Anything())
        for name in ("hosts", "proxy", "asset_path", "cmd", "env", "labels", "logging", "options")
    )
)
"""What may stand under ``servers.ROLE`` when it is a map; all but the first two is for Kamal."""
