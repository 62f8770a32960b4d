"""Certificates of one's own, as an operator has them: in secrets, in files, renewed, broken."""

from __future__ import annotations

import json
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.support.proxy import KPROXY, Proxy, run
from tests.e2e.support.stage import Stage
from tests.e2e.support.targets import says
from tests.e2e.support.waiting import PATIENCE, wait_until
from tests.e2e.support.wire import Wire, request_text
from tests.support.certificates import Authority, Pair
from tests.support.ports import free_port

CA = Authority()
SSL = {"certificate_pem": "CERTIFICATE", "private_key_pem": "KEY"}
HOST = "app.example"


class Site:
    """A proxy with TLS, and a browser that trusts `CA` and nobody else."""

    def __init__(self, stage: Stage, *, wait: bool = True, **options: Any) -> None:
        self.stage = stage
        self.port = free_port()
        self.target = stage.target(says("app"))
        self.options = options
        self.config = self.write(self.target.address)
        self.proxy = self.start(wait=wait)

    def write(self, *addresses: str, **proxy: Any) -> Path:
        role = {"hosts": list(addresses), "proxy": {"ssl": SSL, **proxy}}
        return self.stage.deploy({"app": role})

    def start(self, *, wait: bool = True, **options: Any) -> Proxy:
        environ = {"KPROXY_HTTPS_PORT": str(self.port), **self.options, **options}
        proxy = self.stage.proxy(self.config, **environ)
        if wait:
            wait_until("HTTPS is served", lambda: self.status(proxy) == 200)
        return proxy

    def status(self, proxy: Proxy) -> int:
        """Of the health check path, over HTTPS; 0: there is no connection."""
        try:
            with self.connect(HOST) as wire:
                wire.send(request_text(path="/up", host=HOST))
                return wire.read_response().status
        except OSError:
            assert not proxy.ended(), proxy.output
            return 0

    def connect(self, host: str = HOST) -> Wire:
        context = ssl.create_default_context(cadata=CA.root)
        sock = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        try:
            return Wire(context.wrap_socket(sock, server_hostname=host))
        except BaseException:
            sock.close()
            raise

    def get(self, host: str = HOST) -> str:
        with self.connect(host) as wire:
            wire.send(request_text(host=host))
            return wire.read_response().text

    def shown(self) -> str:
        """The certificate that a new client gets, PEM."""
        with self.connect() as wire:
            return certificate_of(wire)


def certificate_of(wire: Wire) -> str:
    assert isinstance(wire.sock, ssl.SSLSocket)
    der = wire.sock.getpeercert(binary_form=True)
    assert der is not None
    return ssl.DER_cert_to_PEM_cert(der)


def quoted(**values: str) -> str:
    return "".join(f'{name}="{value}"\n' for name, value in values.items())


def write_secrets(folder: Path, pair: Pair, name: str = "secrets") -> None:
    """Write both into a file of Kamal's secrets, as values of several lines."""
    path = folder / ".kamal" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(quoted(CERTIFICATE=pair.chain, KEY=pair.key))


def by_lines(folder: Path, pair: Pair) -> Mapping[str, Any]:
    write_secrets(folder, pair)
    return {}


def by_commands(folder: Path, pair: Pair) -> Mapping[str, Any]:
    (folder / "tls").mkdir()
    (folder / "tls" / "chain.pem").write_text(pair.chain)
    (folder / "tls" / "key.pem").write_text(pair.key)
    (folder / ".kamal").mkdir()
    (folder / ".kamal" / "secrets").write_text(
        "FOLDER=tls\nCERTIFICATE=$(cat $FOLDER/chain.pem)\nKEY=$(cat ${FOLDER}/key.pem)\n"
    )
    return {}


def by_destination(folder: Path, pair: Pair) -> Mapping[str, Any]:
    write_secrets(folder, CA.issue("wrong.example"), "secrets")
    write_secrets(folder, CA.issue("wrong.example"), "secrets-common")
    write_secrets(folder, pair, "secrets.staging")
    (folder / "deploy.staging.yml").write_text("{}\n")
    return {"KPROXY_DESTINATION": "staging"}


def by_environment(folder: Path, pair: Pair) -> Mapping[str, Any]:
    return {"CERTIFICATE": pair.chain, "KEY": pair.key}


@pytest.mark.parametrize("give", [by_lines, by_commands, by_destination, by_environment])
def test_a_page_is_served_with_the_certificate_of_the_secrets(
    stage: Stage, give: Callable[[Path, Pair], Mapping[str, Any]]
) -> None:
    pair = CA.issue(HOST)
    site = Site(stage, **give(stage.folder, pair))
    assert site.get() == "app"
    assert site.shown() == pair.certificate
    redirect = site.proxy.get("/page?x=1", HOST)
    assert (redirect.status, redirect.get("location")) == (301, f"https://{HOST}/page?x=1")
    (request,) = [r for r in site.target.requests if r.target == "/"]
    assert request.get("x-forwarded-proto") == "https"


def test_openssl_sees_the_whole_chain(
    stage: Stage, require_tool: Callable[[str], str], tmp_path: Path
) -> None:
    write_secrets(stage.folder, CA.issue(HOST))
    site = Site(stage)
    root = tmp_path / "root.pem"
    root.write_text(CA.root)
    command = [require_tool("openssl"), "s_client", "-connect", f"127.0.0.1:{site.port}"]
    command += ["-servername", HOST, "-CAfile", str(root), "-verify_return_error", "-showcerts"]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )
    assert "Verify return code: 0 (ok)" in done.stdout
    assert done.stdout.count("BEGIN CERTIFICATE") == 2


def test_a_renewed_certificate_is_served_after_a_reload_and_no_connection_is_dropped(
    stage: Stage,
) -> None:
    old, new = CA.issue(HOST), CA.issue(HOST)
    write_secrets(stage.folder, old)
    site = Site(stage)
    with site.connect() as kept:
        kept.send(request_text(host=HOST))
        assert kept.read_response().text == "app"
        write_secrets(stage.folder, new)
        site.proxy.send_signal(signal.SIGHUP)
        site.proxy.said("shop-app has the certificate that expires on", count=2)
        assert site.shown() == new.certificate
        kept.send(request_text(host=HOST))
        assert kept.read_response().text == "app"
        assert certificate_of(kept) == old.certificate
    assert "deployed shop-app" not in site.proxy.output


def test_a_broken_certificate_is_refused_with_words_to_act_on_and_the_old_one_stays(
    stage: Stage,
) -> None:
    pair, other = CA.issue(HOST), CA.issue(HOST)
    write_secrets(stage.folder, pair)
    site = Site(stage)
    write_secrets(stage.folder, Pair(pair.certificate, pair.issuers, other.key))
    words = (
        f"shop-app: the secret KEY does not belong to the secret CERTIFICATE, which is for {HOST}"
    )

    site.proxy.send_signal(signal.SIGHUP)
    site.proxy.said(f"deployment failed: {words}")
    assert site.shown() == pair.certificate

    done = site.proxy.command("deploy", "shop-app", "--target", site.target.address)
    assert (done.returncode, done.stderr) == (1, f"Error: {words}\n")
    done = site.proxy.command("reload")
    assert (done.returncode, done.stderr) == (1, f"Error: {words}\n")
    done = run([*KPROXY, "check", site.config])
    assert (done.returncode, done.stderr) == (1, f"{words}\n")
    assert words.removeprefix("shop-app: ") in site.proxy.command("list").stdout

    assert site.get() == "app"
    assert site.shown() == pair.certificate
    assert site.proxy.stop() == 0
    kept = [path.read_text() for path in site.proxy.state.rglob("*") if path.is_file()]
    assert any("private_key_pem" in text for text in kept)
    for key in (pair.key, other.key):
        assert all(key.splitlines()[1] not in text for text in (*kept, site.proxy.output))


def test_files_that_a_command_names_are_served_and_survive_a_restart(stage: Stage) -> None:
    write_secrets(stage.folder, CA.issue(HOST))
    site = Site(stage)
    pair = CA.issue("cli.example")
    certificate, key = stage.folder / "cli.pem", stage.folder / "cli.key"
    certificate.write_text(pair.chain)
    arguments = ["deploy", "cli", "--target", site.target.address, "--host=cli.example", "--tls"]
    arguments += ["--tls-certificate-path=cli.pem", "--tls-private-key-path=cli.key"]
    done = site.proxy.command(*arguments)
    assert done.returncode == 1
    assert done.stderr == f"Error: cli: {key} can't be read: No such file or directory\n"
    key.write_text(pair.key)
    done = site.proxy.command(*arguments)
    assert done.returncode == 0, done.stderr
    assert site.get("cli.example") == "app"
    listed = json.loads(site.proxy.command("list", "--json").stdout)["services"]
    certificates = {each["service"]: each["certificates"] for each in listed}
    assert certificates["cli"][0]["name"] == "cli.example"
    assert certificates["cli"][0]["days_left"] == 89
    assert "89 days" in site.proxy.command("list").stdout

    assert site.proxy.stop() == 0
    site.start()
    assert site.get("cli.example") == "app"


def test_a_restart_without_the_secrets_serves_the_rest_until_they_are_back(stage: Stage) -> None:
    pair = CA.issue(HOST)
    write_secrets(stage.folder, pair)
    site = Site(stage)
    assert site.proxy.stop() == 0
    (stage.folder / ".kamal" / "secrets").unlink()
    proxy = site.start(wait=False)
    proxy.said("deployment failed: shop-app: the secret CERTIFICATE is neither in")
    assert proxy.get("/", HOST).status == 301
    with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name|alert"):
        site.connect()
    write_secrets(stage.folder, pair)
    assert proxy.command("reload").returncode == 0
    assert site.get() == "app"


def test_services_on_other_paths_follow_the_one_at_the_root(stage: Stage) -> None:
    write_secrets(stage.folder, CA.issue(HOST))
    site = Site(stage)
    api = stage.target(says("api"))
    done = site.proxy.command(
        *("deploy", "api", "--target", api.address, f"--host={HOST}", "--path-prefix=/api")
    )
    assert done.returncode == 0, done.stderr
    redirect = site.proxy.get("/api/x", HOST)
    assert (redirect.status, redirect.get("location")) == (301, f"https://{HOST}/api/x")
    with site.connect() as wire:
        wire.send(request_text(path="/api/x", host=HOST))
        assert wire.read_response().text == "api"
    assert site.proxy.command("remove", "shop-app").returncode == 0
    assert site.proxy.get("/api/x", HOST).text == "api"
