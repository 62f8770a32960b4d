"""All the files of one proxy → one `Configuration`, or all that is wrong with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kproxy.config.application import Circumstances, Said, read_application
from kproxy.config.claims import check_claims, check_names
from kproxy.config.model import Acme, Configuration, Run
from kproxy.config.node import ConfigurationError, Node, Position, Rejected, Report, merge
from kproxy.config.uses import Validator
from kproxy.config.yamlfile import read_map


def load(
    files: Sequence[Path],
    *,
    destination: str | None,
    server: str | None,
    environ: Mapping[str, str],
    wrappers: Mapping[str, Validator],
    dns_responders: Mapping[str, Validator] | None = None,
    stores: Mapping[str, Validator] | None = None,
) -> Configuration:
    """Read and understand the files of one proxy.

    @param files: a ``deploy.yml`` of each application. Problems name them as they are given here.
    @param destination: lays ``deploy.NAME.yml`` over each.
    @param server: serve only the roles that list this host, with it as their one target.
    @param environ: what ERB tags read.
    @param wrappers: the wrappers that are installed, by name; `kproxy.plugins.find_wrappers`.
    @param dns_responders: the same for the responders that ``x-kproxy.acme.dns`` may name.
    @param stores: the same for the certificate stores that ``x-kproxy.acme.store`` may name.
    @raise ConfigurationError: with every problem of every file.
    """
    report = Report()
    around = Circumstances(
        destination, server, wrappers, dns_responders or {}, stores or {}, report
    )
    applications = []
    for path in files:
        document = _read(path, destination, environ, report)
        if document is not None:
            applications.append(read_application(document, _folder(path), around))
    services = [declared for each in applications for declared in each.services]
    check_names(services, report)
    check_claims(services, report)
    said = _agree((said for each in applications for said in each.said), report)
    if server is not None and not services and not report.problems:
        start = applications[0].start if applications else Position(str(server))
        report.add(start, "servers", f'no proxied role lists the server "{server}"')
    if report.problems:
        raise ConfigurationError(report.problems)
    return Configuration(
        services=tuple(declared.service for declared in services),
        run=said.get("run", Run()),
        acme=said.get("acme", Acme()),
        access_log=said.get("access_log"),
        workers=said.get("workers"),
    )


def _read(
    path: Path, destination: str | None, environ: Mapping[str, str], report: Report
) -> Node | None:
    """A file with its destination; None if either can't be read."""
    paths = [path]
    if destination is not None:
        paths.append(path.parent / f"{path.stem}.{destination}{path.suffix}")
    documents = []
    for each in paths:
        try:
            documents.append(read_map(each, environ, report))
        except Rejected:
            continue
    if len(documents) < len(paths):
        return None
    return documents[0] if destination is None else merge(*documents)


def _folder(path: Path) -> Path:
    """Where Kamal would be run from, which is where relative paths start."""
    folder = path.absolute().parent
    return folder.parent if folder.name == "config" else folder


def _agree(said: Iterable[Said], report: Report) -> dict[str, Any]:
    """What is said of the whole proxy; files that contradict each other are a problem."""
    first: dict[str, Said] = {}
    for each in said:
        known = first.setdefault(each.name, each)
        if known.value != each.value:
            message = f"differs from {known.position}, and one proxy has only one of it"
            report.add(each.position, each.key, message)
    return {name: each.value for name, each in first.items()}
