"""The description of the admin interface, held against the interface both ways; and its page."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from http.client import HTTPResponse
from typing import Any
from unittest.mock import Mock

import jsonschema
import pytest
import yaml
from twisted.web.resource import Resource

from kproxy.cli.client import _Connection
from kproxy.cli.main import parser
from kproxy.control import progress
from kproxy.control.admin import OPTIONS, Admin, Services
from kproxy.control.flags import FLAGS, ROLLOUT_FLAGS
from tests.docs.pages import DOCS, blocks, is_shown
from tests.docs.test_commands_doc import commands
from tests.e2e.support.proxy import Proxy, environment
from tests.e2e.support.stage import Stage
from tests.e2e.support.targets import says
from tests.e2e.support.waiting import wait_until
from tests.e2e.support.wire import request_text
from tests.e2e.test_deployments import holding

DESCRIPTION: dict[str, Any] = yaml.safe_load((DOCS / "openapi.yaml").read_text("utf-8"))
SCHEMAS: dict[str, Any] = DESCRIPTION["components"]["schemas"]
METHODS = ("get", "post", "put", "patch", "delete")


class Socket:
    """The admin interface of a real proxy."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.path = proxy.socket

    def begin(self, method: str, path: str, values: Any = None) -> HTTPResponse:
        connection = _Connection(self.path, 30)
        body = None if values is None else json.dumps(values)
        headers = {"Connection": "close"}
        connection.request(method.upper(), path, body, headers)
        return connection.getresponse()

    def ask(self, method: str, path: str, values: Any = None) -> tuple[int, str, list[Any]]:
        """The status, the type, and every line of the answer."""
        response = self.begin(method, path, values)
        lines = [json.loads(line) for line in response.read().splitlines()]
        return response.status, response.headers.get_content_type(), lines


@pytest.fixture(scope="module")
def socket(module_stage: Stage) -> Socket:
    proxy = module_stage.proxy()
    wait_until("the socket is there", proxy.socket.exists)
    return Socket(proxy)


def resolved(part: Any) -> Any:
    """What a part of the description says, or what it refers to."""
    reference = part.get("$ref", "")
    if not reference.startswith("#/components/responses/"):
        return part
    return DESCRIPTION["components"]["responses"][reference.rpartition("/")[2]]


def validate(value: Any, schema: Any) -> None:
    """@raise jsonschema.ValidationError: the value is not what the schema says."""
    document = {**schema, "components": DESCRIPTION["components"]}
    jsonschema.Draft202012Validator(document).validate(value)


def operations() -> Iterator[tuple[str, str, Any]]:
    for path, item in DESCRIPTION["paths"].items():
        for method in METHODS:
            if method in item:
                yield path, method, item[method]


def fields(operation: Any) -> dict[str, Any]:
    """What the body of an operation may hold, and the schema of each."""
    if "requestBody" not in operation:
        return {}
    reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    found: dict[str, Any] = SCHEMAS[reference.rpartition("/")[2]].get("properties", {})
    return found


def served(resource: Resource, path: str = "") -> Iterator[tuple[str, str]]:
    """Every path and method that a resource and its children answer."""
    for method in METHODS:
        if hasattr(resource, f"render_{method.upper()}"):
            yield path, method
    children = {name.decode(): child for name, child in resource.children.items()}
    if isinstance(resource, Services):
        children["{service}"] = resource.getChild(b"x", None)
    for name, child in children.items():
        yield from served(child, f"{path}/{name}")


def command_options(prog: str) -> set[str]:
    (command,) = (each for each in commands(parser()) if each.prog == prog)
    named = {action.dest for action in command._actions if action.option_strings}
    return named - {"help", "socket"}


def short(path: str) -> str:
    """The name of an operation, as the code has it."""
    return path.partition("{service}/")[2] or path[1:]


def taken(path: str) -> set[str]:
    """What the code takes in the body of a request."""
    name = short(path)
    if name == "deploy":
        return {flag.key for flag in FLAGS}
    if name == "rollout/deploy":
        return {flag.key for flag in ROLLOUT_FLAGS}
    if name == "rollout/set":
        return command_options("kproxy rollout set")
    return set(OPTIONS.get(name, ()))


def test_every_path_and_method_that_is_served_is_described_and_no_other() -> None:
    admin = Admin(Mock(), Mock(), Mock())
    assert set(served(admin)) == {(path, method) for path, method, _ in operations()}


@pytest.mark.parametrize("operation", [*operations()], ids=lambda each: f"{each[1]} {each[0]}")
def test_every_option_that_is_taken_is_described_and_no_other(operation: Any) -> None:
    path, _, described = operation
    assert set(fields(described)) == taken(path)
    for name, default in OPTIONS.get(short(path), {}).items():
        assert fields(described)[name].get("default", "") == default


@pytest.mark.parametrize("operation", [*operations()], ids=lambda each: f"{each[1]} {each[0]}")
def test_every_option_that_is_described_is_looked_at(socket: Socket, operation: Any) -> None:
    path, method, described = operation
    if method == "get":
        return
    path = path.replace("{service}", "none")
    for name in fields(described):
        status, kind, (answer,) = socket.ask(method, path, {name: {"no": "such"}})
        assert status in (400, 404), (name, answer)
        assert "no option" not in answer["error"]
        check(described, status, kind, [answer])
    status, kind, (answer,) = socket.ask(method, path, {"nonsense": 1})
    assert (status, answer["error"]) in {
        (400, "there is no option nonsense"),
        (404, "service not found: none"),
    }
    check(described, status, kind, [answer])


def check(operation: Any, status: int, kind: str, lines: list[Any]) -> None:
    """Hold an answer against its description."""
    response = resolved(operation["responses"][str(status)])
    for line in lines:
        validate(line, response["content"][kind]["schema"])


def test_every_event_is_described_and_no_other() -> None:
    told = set(re.findall(r"^- ``(\w+)``|, or ``(\w+)`` with", progress.__doc__ or "", re.M))
    assert {name for pair in told for name in pair if name} == {
        SCHEMAS[each["$ref"].rpartition("/")[2]]["properties"]["event"]["const"]
        for each in SCHEMAS["Event"]["oneOf"]
    }


def test_answers_are_as_described(socket: Socket, module_stage: Stage) -> None:
    """A service's whole life."""
    one, ill = module_stage.target(says("1")), module_stage.target(says("2"))
    ill.healthy = False
    seen = set()

    def ask(method: str, path: str, values: Any, last: str | None = "done") -> Any:
        (described,) = (
            operation
            for template, each, operation in operations()
            if (template.replace("{service}", "app"), each) == (path, method)
        )
        status, kind, lines = socket.ask(method, path, values)
        check(described, status, kind, lines)
        if last is not None:
            assert lines[-1]["event"] == last, lines
        seen.update(line["event"] for line in lines if "event" in line)
        return lines[-1]

    quick = {"health_check_interval": 0.1, "host": ["app.example"]}
    ask("post", "/services/app/deploy", {"target": [one.address], **quick})
    deployment = {"target": [ill.address], "deploy_timeout": 0.3, **quick}
    ask("post", "/services/app/deploy", deployment, "failed")
    ask("post", "/services/app/rollout/deploy", {"target": [one.address]})
    ask("post", "/services/app/rollout/set", {"percent": 10, "list": ["me"]})
    ask("get", "/services", None, None)
    assert ask("get", "/services/app", None, None)["rollout"]["percent"] == 10
    ask("post", "/services/app/rollout/stop", {})
    for url in ("http://app.example/", "http://none.example/"):
        ask("post", "/explain", {"url": url}, None)
    ask("post", "/explain", {"url": "ftp://app.example/"}, None)
    ask("post", "/services/app/pause", {})
    ask("get", "/services/app", None, None)
    ask("post", "/explain", {"url": "http://app.example/"}, None)
    ask("post", "/services/app/stop", {"message": "x"})
    ask("get", "/services/app", None, None)
    ask("post", "/services/app/resume", None)
    ask("post", "/reload", None)
    ask("delete", "/services/app", None)
    ask("delete", "/services/app", None, "failed")
    ask("get", "/services/app", None, None)
    assert seen >= {"check", "switched", "done", "failed"}


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("get", "/services/app/deploy", "POST"),
        ("head", "/reload", "POST"),
        ("put", "/services/app", "GET, DELETE"),
        ("post", "/services", "GET"),
    ],
)
def test_another_method_is_refused_in_json_too(
    socket: Socket, method: str, path: str, allowed: str
) -> None:
    response = socket.begin(method, path)
    text = response.read()
    assert (response.status, response.headers["allow"]) == (405, allowed)
    assert response.headers.get_content_type() == "application/json"
    if method != "head":
        named = allowed.replace(", ", " or ")
        error = f"{method.upper()} is not what is done here, but {named}"
        assert json.loads(text) == {"error": error}


@pytest.mark.parametrize("path", ["/", "/nothing", "/services/app/what", "/services/app/rollout"])
def test_a_path_that_is_not_there_is_told_in_json(socket: Socket, path: str) -> None:
    status, kind, (answer,) = socket.ask("get", path)
    assert (status, kind, list(answer)) == (404, "application/json", ["error"])


def test_waiting_is_told_as_described(socket: Socket, module_stage: Stage) -> None:
    ill = module_stage.target(says("2"))
    ill.healthy = False
    deployment = {"target": [ill.address], "deploy_timeout": 20, "health_check_interval": 0.1}
    both = [socket.begin("post", "/services/wait/deploy", deployment) for _ in range(2)]
    # The first line of each is there with its response's head.
    events = [json.loads(response.readline()) for response in both]
    assert [event["event"] for event in events] == ["check", "queued"]
    ill.healthy = True
    for response in both:
        events += [json.loads(line) for line in response]
    for event in events:
        validate(event, SCHEMAS["Event"])
    assert [event["event"] for event in events].count("done") == 2


def test_what_is_drained_is_told_as_described(socket: Socket, module_stage: Stage) -> None:
    script, arrived, go_on = holding("old")
    proxy_target = module_stage.target(script)
    deployment = {"target": [proxy_target.address], "host": ["drain.example"]}
    assert socket.ask("post", "/services/drain/deploy", deployment)[2][-1] == {"event": "done"}
    with socket.proxy.connect() as wire:
        wire.send(request_text(path="/slow", host="drain.example"))
        assert arrived.wait(20)
        response = socket.begin("post", "/services/drain/pause")
        event = json.loads(response.readline())
        assert event == {"event": "draining", "service": "drain", "requests": 1}
        validate(event, SCHEMAS["Event"])
        go_on.set()
        assert wire.read_response().status == 200
        assert json.loads(response.read().splitlines()[-1]) == {"event": "done"}


def test_the_description_names_each_operation_once() -> None:
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(names) == len(set(names))


def test_the_page_names_every_request_and_event() -> None:
    text = (DOCS / "admin.md").read_text("utf-8")
    rows = set(re.findall(r"^\| `(GET|POST|DELETE) (/\S*)`", text, re.M))
    assert rows == {
        (method.upper(), path.replace("{service}", "NAME")) for path, method, _ in operations()
    }
    consts = {
        s["properties"]["event"]["const"]
        for n, s in SCHEMAS.items()
        if n.endswith("Event") and n != "Event"
    }
    assert set(re.findall(r"^\| `(\w+)` \|", text, re.M)) == consts


def test_curl_prints_what_the_page_shows(stage: Stage, require_tool: Callable[[str], str]) -> None:
    require_tool("curl")
    target = stage.target(says("shop"))
    proxy = stage.proxy()
    wait_until("the socket is there", proxy.socket.exists)
    replace = {"/tmp/kproxy.sock": str(proxy.socket), "127.0.0.1:3001": target.address}
    shown = [
        pair
        for block in blocks(DOCS / "admin.md", replace)
        if block.language == "console"
        for pair in block.commands()
    ]
    assert len(shown) == 9
    for command, output in shown:
        done = subprocess.run(
            ["sh", "-c", command], capture_output=True, text=True, timeout=60, env=environment()
        )
        assert is_shown(done.stdout, output), (command, done.stdout, done.stderr)
