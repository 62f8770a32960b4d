"""A Django application that insists on HTTPS, behind ``ssl``: gunicorn, and curl with its cookies."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.support.apps import App, gunicorn
from tests.e2e.support.https import https_proxy, trusted_file
from tests.e2e.support.proxy import Proxy
from tests.e2e.support.stage import Stage

HOST = "app.example"


@pytest.fixture(scope="module")
def app(module_stage: Stage) -> Iterator[App]:
    with gunicorn("accounts:app", module_stage.folder / "app.log") as app:
        yield app


@pytest.fixture(scope="module")
def proxy(module_stage: Stage, app: App) -> Proxy:
    roles = {"app": {"hosts": [app.address], "proxy": {"ssl": True}}}
    # Django answers to its own names only, health checks included.
    return https_proxy(module_stage, roles, top={"x_kproxy": {"healthcheck_host": HOST}})


class Visitor:
    """Follows redirects, keeps cookies, and sends those that are Secure by HTTPS only."""

    def __init__(self, proxy: Proxy, curl: str, folder: Path) -> None:
        self.jar = folder / "cookies"
        self._headers = folder / "headers"
        self._command = [
            *(curl, "-sS", "--location", "--max-redirs", "5", "--noproxy", "*"),
            *("--cacert", str(trusted_file(folder)), "--cookie", str(self.jar)),
            *("--cookie-jar", str(self.jar), "--dump-header", str(self._headers)),
            *("--connect-to", f"{HOST}:80:127.0.0.1:{proxy.port}"),
            *("--connect-to", f"{HOST}:443:127.0.0.1:{proxy.https_port}"),
            *("--write-out", "%{stderr}%{json}"),
        ]
        self.status = 0
        self.redirects: int | None = None
        self.url = ""

    def open(self, url: str, *options: str) -> str:
        done = subprocess.run(
            [*self._command, *options, url],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        outcome = json.loads(done.stderr)
        self.status = outcome["response_code"]
        self.redirects = outcome["num_redirects"]
        self.url = outcome["url_effective"]
        return done.stdout

    def headers(self) -> list[str]:
        """The header lines of all answers on the way, in lower case."""
        return self._headers.read_text().lower().splitlines()

    def cookies(self) -> dict[str, bool]:
        """Name -> whether it is for HTTPS only."""
        lines = self.jar.read_text().replace("#HttpOnly_", "").splitlines()
        fields = [line.split("\t") for line in lines if line and not line.startswith("#")]
        return {name: secure == "TRUE" for _, _, _, secure, _, name, _ in fields}


@pytest.fixture
def visitor(proxy: Proxy, require_tool: Callable[[str], str], tmp_path: Path) -> Visitor:
    return Visitor(proxy, require_tool("curl"), tmp_path)


@pytest.mark.parametrize(("scheme", "redirects"), [("https", 0), ("http", 1)])
def test_a_page_is_shown_without_a_loop_of_redirects(
    visitor: Visitor, scheme: str, redirects: int
) -> None:
    page = visitor.open(f"{scheme}://{HOST}/?a=b")
    assert (visitor.status, visitor.redirects) == (200, redirects)
    assert visitor.url == f"https://{HOST}/?a=b"
    assert page.splitlines()[:2] == ["Hello stranger", f"https://{HOST}/?a=b"]


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_a_session_is_kept_in_a_secure_cookie(visitor: Visitor, version: str) -> None:
    token = visitor.open(f"https://{HOST}/", version).splitlines()[-1]
    form = ["--data", "name=Ann", "--data-urlencode", f"csrfmiddlewaretoken={token}"]
    page = visitor.open(f"https://{HOST}/", version, "--header", f"Origin: https://{HOST}", *form)
    assert (visitor.status, visitor.redirects) == (200, 1)
    assert page.startswith("Hello Ann\n")
    assert visitor.cookies() == {"sessionid": True, "csrftoken": True}
    assert visitor.open(f"https://{HOST}/", version).startswith("Hello Ann\n")


def test_a_form_from_elsewhere_is_refused(visitor: Visitor) -> None:
    token = visitor.open(f"https://{HOST}/").splitlines()[-1]
    form = ["--data", "name=Eve", "--data-urlencode", f"csrfmiddlewaretoken={token}"]
    visitor.open(f"https://{HOST}/", "--header", f"Origin: http://{HOST}", *form)
    assert visitor.status == 403


def test_a_client_cannot_say_that_it_came_by_https(proxy: Proxy, visitor: Visitor) -> None:
    visitor.open(f"http://{HOST}/", "--header", "X-Forwarded-Proto: https")
    assert visitor.redirects == 1
    visitor.open(f"https://{HOST}/", "--header", "X-Forwarded-Proto: http")
    assert (visitor.status, visitor.redirects) == (200, 0)


def test_hsts_of_the_application_is_passed_on(visitor: Visitor) -> None:
    visitor.open(f"https://{HOST}/")
    assert "strict-transport-security: max-age=31536000; includesubdomains" in visitor.headers()
