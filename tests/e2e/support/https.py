"""HTTPS in front of scripted targets, with certificates of the tests' own CA."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.e2e.support.proxy import Proxy
from tests.e2e.support.stage import Stage
from tests.e2e.support.waiting import wait_until
from tests.e2e.support.wire import request_text
from tests.support.certificates import Authority

CA = Authority("End to end")
SSL = {"certificate_pem": "CERTIFICATE", "private_key_pem": "KEY"}


def secrets(folder: Path, *names: str, prefix: str = "") -> dict[str, str]:
    """Put a certificate for names among the secrets; what ``ssl`` has to say to use it."""
    pair = CA.issue(*names)
    path = folder / ".kamal" / "secrets"
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as file:
        for name, text in (("CERTIFICATE", pair.chain), ("KEY", pair.key)):
            file.write(f'{prefix}{name}="{text}"\n')
    return {key: prefix + name for key, name in SSL.items()}


def trusted_file(folder: Path) -> Path:
    """A file with the CA, for clients that take one."""
    path = folder / "root.pem"
    path.write_text(CA.root)
    return path


def client(
    *, alpn: Sequence[str] = (), version: ssl.TLSVersion | None = None, check_host: bool = True
) -> ssl.SSLContext:
    """A client that trusts the CA."""
    context = ssl.create_default_context(cadata=CA.root)
    context.check_hostname = check_host
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


def https_proxy(stage: Stage, roles: Mapping[str, Mapping[str, Any]], **options: Any) -> Proxy:
    """A proxy that listens for HTTPS too, once its services are served.

    @param roles: as `write_deploy` takes them; ``ssl: True`` is replaced by a certificate.
    """
    prepared = {}
    for name, role in roles.items():
        proxy = dict(role.get("proxy", {}))
        if proxy.get("ssl") is True:
            host = proxy.get("host", f"{name}.example")
            proxy["ssl"] = secrets(stage.folder, *host.split(","), prefix=f"{name.upper()}_")
        prepared[name] = {**role, "proxy": proxy}
    config = stage.deploy(prepared, **options.pop("top", {}))
    proxy = stage.proxy(config, https=True, **options)
    for name, role in prepared.items():
        host = str(role["proxy"].get("host", f"{name}.example")).split(",")[0].replace("*", "w")
        ask = https_status if role["proxy"].get("ssl") else http_status
        wait_until(f"{host} is served", lambda ask=ask, host=host: ask(proxy, host) != 503)
    return proxy


def http_status(proxy: Proxy, host: str) -> int:
    return proxy.get("/up", host).status


def https_status(proxy: Proxy, host: str) -> int:
    with proxy.connect_tls(client(), host) as wire:
        wire.send(request_text(path="/up", host=host))
        return wire.read_response().status
