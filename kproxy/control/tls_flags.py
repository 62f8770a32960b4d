"""What the options of a deployment that are about TLS mean together, as they do for kamal-proxy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from kproxy.config.model import CertificateFiles, Service

CERTIFICATE = "tls-certificate-path"
PRIVATE_KEY = "tls-private-key-path"


def with_tls(service: Service, base: Service, options: Mapping[str, Any]) -> Service:
    """A service as its options say, but for what they say of TLS together.

    @param base: the service before.
    @param options: those that were given; each for itself is right.
    @raise ValueError: they do not go together; the text is a sentence.
    """
    certificate = options.get(CERTIFICATE.replace("-", "_"))
    key = options.get(PRIVATE_KEY.replace("-", "_"))
    if bool(certificate) != bool(key):
        given, missing = (CERTIFICATE, PRIVATE_KEY) if certificate else (PRIVATE_KEY, CERTIFICATE)
        raise ValueError(f"--{given} goes with --{missing}, which is missing")
    if certificate and key:
        if not service.ssl:
            raise ValueError(f"--{CERTIFICATE} is of use with --tls only")
        service = replace(service, ssl=CertificateFiles(Path(certificate), Path(key)))
    elif service.ssl is True and base.ssl:
        # "Serve HTTPS", to a service that does, does not ask for another certificate.
        service = replace(service, ssl=base.ssl)
    if options.get("tls") and not service.hosts and service.tls_on_demand_url is None:
        raise ValueError("--tls needs a host: --host NAME, or --tls-on-demand-url")
    if bool(service.ssl) != bool(base.ssl) and "forward_headers" not in options:
        # By default, as in the file: what is in front of a proxy with TLS is nobody to be believed.
        service = replace(service, forward_headers=not service.ssl)
    return service
