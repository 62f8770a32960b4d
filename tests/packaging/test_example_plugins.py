"""The distributions of examples/plugins are installed beside kproxy, found, and used.

They are third parties as far as kproxy can tell: nothing in kproxy knows of them.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.packaging.test_install import NO_LITTER, ROOT, SOURCES, Environment, run

NAMES = ("kproxy-banner", "kproxy-rate-limit")

DEPLOY = """\
service: shop
servers: [10.0.0.1]
proxy: {host: example.com, app_port: 3000}
x-kproxy:
  wrappers:
    - rate-limit: {requests: 2, per: 60}
    - banner: {html: <b>Tonight</b>}
    - banner: {html: <b>Tomorrow</b>}
"""

USE = """
from pathlib import Path
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.web.resource import Resource
from kproxy.config import load
from kproxy.http.site import Site
from kproxy.network import Carrier
from kproxy.plugins import find_wrappers
from kproxy.tree import assemble, service_chain
from kproxy.wrappers.gate import GateControl
from kproxy.wrappers.refusal import Refusal

class Application(Resource):
    isLeaf = True
    def render_GET(self, request):
        return b"<html><body>hello</body></html>"

plugins, clock = find_wrappers(), Clock()
config = load([Path("deploy.yml")], destination=None, server=None, environ={}, wrappers=plugins)
(service,) = config.services
chain = service_chain(service, GateControl(clock), None)
site = Site(assemble(chain, Application(), plugins), Refusal(), clock)
transport = StringTransport()
client = Carrier(site.factory(False)())
client.makeConnection(transport)
for _ in range(3):
    client.dataReceived(b"GET / HTTP/1.1\\r\\nHost: example.com\\r\\n\\r\\n")
print(transport.value().decode())
"""


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copies of kproxy's source and of the examples', so that building leaves nothing behind."""
    folder = tmp_path_factory.mktemp("sources")
    (folder / "kproxy").mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / "kproxy" / name, ignore=NO_LITTER)
        else:
            shutil.copy(ROOT / name, folder / "kproxy")
    for name in NAMES:
        shutil.copytree(ROOT / "examples" / "plugins" / name, folder / name, ignore=NO_LITTER)
    return folder


@pytest.fixture(
    scope="module",
    params=[("wheel", "wheel"), ("wheel", "editable"), ("editable", "wheel")],
    ids=lambda ways: f"kproxy {ways[0]}, plug-ins {ways[1]}",
)
def installed(
    request: pytest.FixtureRequest, sources: Path, tmp_path_factory: pytest.TempPathFactory
) -> Environment:
    environment = Environment(tmp_path_factory.mktemp("environment"))
    for name, way in zip(
        ("kproxy", *NAMES), (request.param[0], *[request.param[1]] * 2), strict=True
    ):
        # pip builds the wheel of a folder that is installed without --editable.
        environment.install(*["--editable"] * (way == "editable"), sources / name)
    (environment.folder / "deploy.yml").write_text(DEPLOY)
    return environment


def kproxy(environment: Environment, *arguments: str) -> str:
    return run(environment.folder / "bin" / "kproxy", *arguments, cwd=environment.folder)


@pytest.mark.parametrize(
    ("name", "origin", "option"),
    [
        ("rate-limit", "kproxy.plugins.rate_limit (kproxy-rate-limit 1.0)", "trusted_proxies"),
        ("banner", "kproxy.plugins.banner (kproxy-banner 1.0)", "search"),
    ],
)
def test_kproxy_wrappers_lists_them_with_their_origin_and_options(
    installed: Environment, name: str, origin: str, option: str
) -> None:
    listed = kproxy(installed, "wrappers", name)
    assert listed.splitlines()[0] == name
    assert f"from {origin}" in listed
    assert option in listed
    assert f"\n{name}\n" in kproxy(installed, "wrappers")


def test_they_stand_beside_kproxys_own(installed: Environment) -> None:
    assert "\nforward-headers\n" in kproxy(installed, "wrappers")


def test_kproxy_check_shows_them_in_the_order_of_deploy_yml(installed: Environment) -> None:
    line = kproxy(installed, "check", "deploy.yml").splitlines()[-1]
    assert line.endswith("rate-limit, banner, banner")


def test_an_option_that_they_refuse_is_a_problem_with_its_place(installed: Environment) -> None:
    file = installed.folder / "wrong.yml"
    file.write_text(DEPLOY.replace("requests: 2", "requests: lots"))
    done = subprocess.run(
        [installed.folder / "bin" / "kproxy", "check", "wrong.yml"],
        cwd=installed.folder,
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("wrong.yml:6:30: x-kproxy.wrappers")
    assert 'rate-limit.requests: should be an integer, is "lots"' in done.stderr


def test_they_do_their_work_in_a_service_that_deploy_yml_gives_them_to(
    installed: Environment,
) -> None:
    first, second, third = installed.python(USE).split("HTTP/1.1 ")[1:]
    page = "<html><body><b>Tonight</b><b>Tomorrow</b>hello</body></html>"
    for response in (first, second):
        assert response.startswith("200 OK")
        assert f"Content-Length: {len(page)}" in response
        assert page in response
    assert third.startswith("429 Too Many Requests")
    assert "Retry-After: 30" in third


@pytest.mark.parametrize("name", NAMES)
def test_their_own_tests_pass_where_they_are_installed(
    installed: Environment, sources: Path, name: str
) -> None:
    python = installed.folder / "bin" / "python"
    run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=sources / name)


@pytest.mark.parametrize("name", NAMES)
def test_they_use_nothing_but_what_is_made_for_plugins(sources: Path, name: str) -> None:
    offered = {
        "kproxy.interfaces",
        "kproxy.plugins",
        "kproxy.config.schema",
        "kproxy.wrappers.base",
        "kproxy.streaming",
        "kproxy.errors",
    }
    lines = [
        line
        for path in (sources / name).rglob("*.py")
        if "tests" not in path.parts
        for line in path.read_text().splitlines()
        if line.startswith(("from kproxy", "import kproxy"))
    ]
    assert lines
    assert {line.split()[1] for line in lines} <= offered


def test_uninstalling_them_leaves_kproxy_as_it_was(
    sources: Path, tmp_path: Path, installed: Environment
) -> None:
    before = kproxy(installed, "wrappers", "gate")
    installed.pip("uninstall", "--yes", *NAMES)
    listed = kproxy(installed, "wrappers")
    assert "\nbanner\n" not in listed
    assert "\nrate-limit\n" not in listed
    assert kproxy(installed, "wrappers", "gate") == before
