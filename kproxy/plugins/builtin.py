"""The wrappers, the DNS-01 responder and the certificate store that come with kproxy, announced as
anybody's are."""

from __future__ import annotations

from kproxy.config import checks
from kproxy.config.schema import (
    Boolean,
    Checked,
    Choice,
    Integer,
    ListOf,
    Option,
    Seconds,
    Section,
    Text,
)
from kproxy.config.sections import EXACT_HOST, HEADER, PORT, PREFIX, SERVER_NAME, SIZE
from kproxy.plugins import CertificateStorePlugin, DNSResponderPlugin, WrapperPlugin

_BODY = (
    Option("memory", SIZE, help="Bytes held in memory; the rest goes to a file."),
    Option("max_body", SIZE, help="Bytes that a body may have; 0: no limit."),
)


request_id = WrapperPlugin(
    "request-id",
    "Sets X-Request-ID to a new UUID where the request has none.",
    "kproxy.wrappers.request_id.RequestID",
    Section(into="kproxy.wrappers.request_id.Options"),
)
request_start = WrapperPlugin(
    "request-start",
    "Sets X-Request-Start to the time of arrival where the request has none.",
    "kproxy.wrappers.request_start.RequestStart",
    Section(into="kproxy.wrappers.request_start.Options"),
)
access_log = WrapperPlugin(
    "access-log",
    "Writes one JSON object a line for every request, to standard output.",
    "kproxy.wrappers.access_log.AccessLog",
    Section(into="kproxy.wrappers.access_log.Options"),
)
metrics = WrapperPlugin(
    "metrics",
    "Counts requests for Prometheus.",
    "kproxy.wrappers.metrics.Metrics",
    Section(into="kproxy.wrappers.metrics.Options"),
)
error_pages = WrapperPlugin(
    "error-pages",
    "Makes the HTML pages for the answers that the proxy gives itself.",
    "kproxy.wrappers.error_pages.ErrorPages",
    Section(
        Option("path", Text(), help="A folder of CODE.html."), into="kproxy.wrappers.error_pages.at"
    ),
)
acme_challenge = WrapperPlugin(
    "acme-challenge",
    "Answers what a CA looks for over HTTP before it gives a certificate.",
    "kproxy.wrappers.acme_challenge.AcmeChallenge",
    Section(into="kproxy.wrappers.acme_challenge.Options"),
)
canonical_host = WrapperPlugin(
    "canonical-host",
    "Redirects to one host name what was asked for by another.",
    "kproxy.wrappers.canonical_host.CanonicalHost",
    Section(
        Option("host", EXACT_HOST, required=True, help="The name to use."),
        into="kproxy.wrappers.canonical_host.Options",
    ),
)
ssl_redirect = WrapperPlugin(
    "ssl-redirect",
    "Redirects plain HTTP to HTTPS.",
    "kproxy.wrappers.ssl_redirect.SSLRedirect",
)
refuse_tls = WrapperPlugin(
    "refuse-tls",
    "Answers 503 to requests that came by HTTPS.",
    "kproxy.wrappers.refuse_tls.RefuseTLS",
)
gate = WrapperPlugin(
    "gate",
    "Holds requests while a service is paused, and turns them away while it is stopped.",
    "kproxy.wrappers.gate.Gate",
    Section(
        Option("state", Choice("running", "paused", "stopped"), help="What it does."),
        Option("message", Text(), help="What visitors of a stopped service read."),
        Option("max_pause", Seconds(above=0), help="How long a request is held."),
        into="kproxy.wrappers.gate.Options",
    ),
)
path_prefix = WrapperPlugin(
    "path-prefix",
    "Strips the path prefix that the request came by.",
    "kproxy.wrappers.path_prefix.PathPrefix",
    Section(
        Option("path_prefixes", ListOf(PREFIX), required=True, help="The prefixes to strip."),
        into="kproxy.wrappers.path_prefix.Options",
    ),
)
forward_headers = WrapperPlugin(
    "forward-headers",
    "Sets X-Forwarded-For, X-Forwarded-Proto and X-Forwarded-Host.",
    "kproxy.wrappers.forward_headers.ForwardHeaders",
    Section(
        Option("forward", Boolean(), help="Whether to trust what came with the request."),
        Option("client_ip_header", HEADER, help="A header that replaces X-Forwarded-For."),
        into="kproxy.wrappers.forward_headers.Options",
    ),
)
request_buffer = WrapperPlugin(
    "request-buffer",
    "Collects request bodies before they are passed on.",
    "kproxy.wrappers.request_buffer.RequestBuffer",
    Section(*_BODY, into="kproxy.wrappers.request_buffer.Options"),
)
request_limit = WrapperPlugin(
    "request-limit",
    "Refuses request bodies over a size, and lets the others stream.",
    "kproxy.wrappers.request_limit.RequestLimit",
    Section(
        Option("max_body", Integer(minimum=1), required=True, help="Bytes that a body may have."),
        into="kproxy.wrappers.request_limit.Options",
    ),
)
writer_affinity = WrapperPlugin(
    "writer-affinity",
    "Marks clients that wrote by a cookie, so that for a while read targets are not asked for them.",
    "kproxy.wrappers.writer_affinity.WriterAffinity",
    Section(
        Option("timeout", Seconds(above=0), help="How long they are."),
        Option("websockets", Boolean(), help="Whether read targets get WebSockets."),
        into="kproxy.wrappers.writer_affinity.Options",
    ),
)
scope_cookies = WrapperPlugin(
    "scope-cookies",
    "Puts the path prefix that was stripped before the paths of cookies.",
    "kproxy.wrappers.scope_cookies.ScopeCookies",
)
response_buffer = WrapperPlugin(
    "response-buffer",
    "Collects responses before they are passed on, except event streams.",
    "kproxy.wrappers.response_buffer.ResponseBuffer",
    Section(*_BODY, into="kproxy.wrappers.response_buffer.Options"),
)

rfc2136 = DNSResponderPlugin(
    "rfc2136",
    "Changes a zone by dynamic updates, which BIND, Knot, PowerDNS and others take.",
    "kproxy.tls.acme.rfc2136.RFC2136",
    Section(
        Option("server", SERVER_NAME, required=True, help="Name or address of the name server."),
        Option("port", PORT, help="Where it listens."),
        Option("zone", EXACT_HOST, help="The zone to change; none: it is found by asking."),
        Option("key", Text(), help="The name of the TSIG key that updates are signed with."),
        Option(
            "algorithm",
            Choice("hmac-sha256", "hmac-sha384", "hmac-sha512", "hmac-sha224", "hmac-sha1"),
            help="What kind of key it is.",
        ),
        Option("secret", Text(), help="Name of the secret that holds the key, in base64."),
        Option("ttl", Integer(minimum=1), help="Seconds that resolvers may keep a record."),
        Option(
            "propagation",
            Seconds(minimum=0),
            help="How long the zone's servers have to show a record; 0: nobody waits for them.",
        ),
        into="kproxy.tls.acme.rfc2136.Options",
        together=(("key", "secret"),),
    ),
)

folder = CertificateStorePlugin(
    "folder",
    "Keeps certificates in a folder that several servers have.",
    "kproxy.tls.acme.stores.shared_folder",
    Section(
        Option(
            "path",
            Checked(Text(), checks.absolute_path, description="an absolute path"),
            required=True,
            help="The folder; it is made if it is not there.",
        ),
        into="kproxy.tls.acme.stores.FolderOptions",
    ),
)
