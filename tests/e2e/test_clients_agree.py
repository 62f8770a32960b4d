"""curl and ``openssl s_client`` agree: on the chain that is shown, and on the protocol."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509

from tests.e2e.support.automatic import HOST, StartPebble, World
from tests.e2e.support.https import secrets, trusted_file
from tests.e2e.support.stage import Stage
from tests.e2e.support.targets import says
from tests.e2e.support.waiting import wait_until

CUSTOM = "custom.example"


@dataclass(frozen=True)
class Service:
    """A host that is served by HTTPS, and a file with the root of whoever vouches for it."""

    host: str
    port: int
    root: Path


@pytest.fixture(scope="module")
def world(module_stage: Stage, start_module_pebble: StartPebble) -> World:
    """A proxy with two services: one has a certificate of the CA, the other one of its own."""
    world = World(module_stage, start_module_pebble)
    hosts = [module_stage.target(says("a page")).address]
    roles = {
        "app": {"hosts": hosts, "proxy": {"ssl": True}},
        "custom": {"hosts": hosts, "proxy": {"ssl": secrets(module_stage.folder, CUSTOM)}},
    }
    world.start(module_stage.deploy(roles, x_kproxy={"acme": world.acme()}))
    wait_until("the page is served", lambda: world.get()[0] == 200)
    return world


@pytest.fixture(params=["automatic", "custom"])
def service(request: pytest.FixtureRequest, world: World, tmp_path: Path) -> Service:
    if request.param == "automatic":
        return Service(HOST, world.https, world.trusted_file())
    return Service(CUSTOM, world.https, trusted_file(tmp_path))


def run(*command: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def chain_in(text: str) -> list[x509.Certificate]:
    """Those of the server, its own first."""
    return x509.load_pem_x509_certificates(text.encode())


@pytest.mark.parametrize(
    ("version", "offered", "agreed"),
    [("2", "h2,http/1.1", "h2"), ("1.1", "http/1.1", "http/1.1")],
)
def test_on_the_chain_and_on_the_protocol(
    service: Service, require_tool: Callable[[str], str], version: str, offered: str, agreed: str
) -> None:
    curl = run(
        *(require_tool("curl"), "-sS", f"--http{version}", f"https://{service.host}/"),
        *("--noproxy", "*", "--connect-to", f"::127.0.0.1:{service.port}"),
        *("--cacert", str(service.root)),
        *("-w", "%{stderr}%{http_version} %{ssl_verify_result}\n%{certs}"),
    )
    openssl = run(
        *(require_tool("openssl"), "s_client", "-connect", f"127.0.0.1:{service.port}"),
        *("-servername", service.host, "-verify_hostname", service.host),
        *("-CAfile", str(service.root), "-verify_return_error", "-showcerts", "-alpn", offered),
    )

    assert curl.stdout == "a page"
    outcome, _, certificates = curl.stderr.partition("\n")
    assert outcome == f"{version} 0"
    assert f"ALPN protocol: {agreed}\n" in openssl.stdout
    assert "Verify return code: 0 (ok)" in openssl.stdout

    leaf, intermediate = chain_in(openssl.stdout)
    assert chain_in(certificates)[:2] == [leaf, intermediate]
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [service.host]
    leaf.verify_directly_issued_by(intermediate)
    (root,) = chain_in(service.root.read_text())
    intermediate.verify_directly_issued_by(root)
