"""The proxies that are compared, one module each; :data:`PROXIES` is the list."""

from __future__ import annotations

from bench.proxies.base import Proxy
from bench.proxies.caddy import Caddy
from bench.proxies.envoy import Envoy
from bench.proxies.haproxy import HAProxy
from bench.proxies.kamal_proxy import KamalProxy
from bench.proxies.kproxy import KProxy, KProxyBare, KProxyPure
from bench.proxies.nginx import Nginx
from bench.proxies.traefik import Traefik
from bench.proxies.twistedweb import TwistedWeb

PROXIES: tuple[Proxy, ...] = (
    KProxy(),
    KProxyPure(),
    KProxyBare(),
    Nginx(),
    HAProxy(),
    Caddy(),
    TwistedWeb(),
    KamalProxy(),
    Traefik(),
    Envoy(),
)

REFERENCES = ("nginx", "haproxy", "caddy")
"""Those that the others' ratios are given to."""
