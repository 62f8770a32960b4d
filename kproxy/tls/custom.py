"""Certificates of one's own: where a service's is read from, and whether it will do.

Reading runs commands and may take its time: nothing here belongs into the reactor's thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from kproxy.config.model import CertificateFiles, CertificateSecrets, Service
from kproxy.config.secrets import Secrets, SecretsError, read_secrets
from kproxy.tls.checked import CertificateError, Checked

Found = Checked | CertificateError
"""A service's certificate, or why it has none."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a certificate and its key come from."""

    ssl: CertificateSecrets | CertificateFiles
    secrets_files: tuple[Path, ...] = ()

    @property
    def certificate_name(self) -> str:
        """What messages call the certificate: nobody has to guess which one is meant."""
        if isinstance(self.ssl, CertificateSecrets):
            return f"the secret {self.ssl.certificate_pem}"
        return f"the certificate {self.ssl.certificate}"


def source_of(service: Service) -> Source | None:
    """Where the certificate of a service comes from; None: it has none of its own."""
    if isinstance(service.ssl, CertificateSecrets):
        return Source(service.ssl, service.secrets_files)
    if isinstance(service.ssl, CertificateFiles):
        return Source(service.ssl)
    return None


def read_custom(
    services: Iterable[Service], environ: Mapping[str, str], now: datetime
) -> dict[str, Found]:
    """Read the certificates of those services that have one of their own. It blocks.

    What several services share is read, and its commands are run, once.

    @param environ: for secrets that no file defines.
    @param now: in UTC.
    @return: by the service's name.
    """
    reader = _Reader(environ, now)
    found: dict[Source, Found] = {}
    results: dict[str, Found] = {}
    for service in services:
        source = source_of(service)
        if source is None:
            continue
        if source not in found:
            try:
                found[source] = reader.read(source)
            except (CertificateError, SecretsError) as error:
                found[source] = CertificateError(str(error))
        results[service.name] = found[source]
    return results


class _Reader:
    def __init__(self, environ: Mapping[str, str], now: datetime) -> None:
        self._environ = environ
        self._now = now
        self._secrets: dict[tuple[Path, ...], Secrets | SecretsError] = {}

    def read(self, source: Source) -> Checked:
        if isinstance(source.ssl, CertificateFiles):
            certificate, key = source.ssl.certificate, source.ssl.private_key
            chain_text, key_text = _read_file(certificate), _read_file(key)
            key_name = f"the key {key}"
        else:
            secrets = self._secrets_of(source.secrets_files)
            chain_text = secrets[source.ssl.certificate_pem]
            key_text = secrets[source.ssl.private_key_pem]
            key_name = f"the secret {source.ssl.private_key_pem}"
        # It takes cryptography, which most proxies need for nothing else.
        from kproxy.tls.certificates import check

        return check(chain_text, key_text, self._now, source.certificate_name, key_name)

    def _secrets_of(self, files: tuple[Path, ...]) -> Secrets:
        if files not in self._secrets:
            try:
                self._secrets[files] = read_secrets(files, self._environ)
            except SecretsError as error:
                self._secrets[files] = error
        secrets = self._secrets[files]
        if isinstance(secrets, SecretsError):
            raise secrets
        return secrets


def _read_file(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except OSError as error:
        raise CertificateError(f"{path} can't be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise CertificateError(f"{path} is no PEM file: it is not text") from None
