"""Services on other paths of a host go by the TLS settings of the one on its root path."""

from __future__ import annotations

import pytest

from kproxy.config.model import CertificateSecrets, Service
from kproxy.control.progress import Event
from kproxy.control.roots import follow_roots
from tests.unit.control.support import A
from tests.unit.control.support import service as make
from tests.unit.control.test_controller import Case

ROOT = make("root", hosts=("a.example", "b.example"), ssl=True, ssl_redirect=False)
API = make("api", hosts=("a.example",), path_prefixes=("/api", "/x"))


def followed(*services: Service) -> list[Service]:
    return list(follow_roots({each.name: each for each in services}, {}).values())


def settings(service: Service) -> tuple[object, bool]:
    return service.ssl, service.ssl_redirect


def test_ssl_and_the_redirect_are_those_of_the_root_and_all_else_is_its_own() -> None:
    root, api = followed(ROOT, API)
    assert root is ROOT
    assert settings(api) == (True, False)
    assert (api.name, api.targets, api.path_prefixes) == ("api", (A,), ("/api", "/x"))


def test_the_order_does_not_matter() -> None:
    assert settings(followed(API, ROOT)[0]) == (True, False)


def test_a_root_without_tls_turns_it_off() -> None:
    plain = make("root", hosts=("a.example",))
    own = make("api", hosts=("a.example",), path_prefixes=("/api",), ssl=True)
    assert settings(followed(plain, own)[1]) == (False, True)


def test_names_of_secrets_are_not_taken_over() -> None:
    root = make("root", hosts=("a.example",), ssl=CertificateSecrets("CERT", "KEY"))
    assert followed(root, API)[1].ssl is True


@pytest.mark.parametrize(
    "root",
    [
        make("root", hosts=("b.example",), ssl=True),
        make("root", hosts=(), ssl=True),
        make("root", hosts=("*.example",), ssl=True),
        make("root", hosts=("a.example",), ssl=True, path_prefixes=("/other",)),
    ],
    ids=["another host", "any host", "a wildcard", "no root"],
)
def test_without_a_root_on_its_own_host_a_service_goes_by_its_own_settings(root: Service) -> None:
    assert followed(root, API)[1] is API


def test_of_several_hosts_the_first_one_decides() -> None:
    plain = make("plain", hosts=("c.example",))
    for hosts, expected in (
        (("a.example", "c.example"), True),
        (("c.example", "a.example"), False),
    ):
        api = make("api", hosts=hosts, path_prefixes=("/api",))
        assert bool(followed(ROOT, plain, api)[2].ssl) is expected


def test_services_for_any_host_follow_the_root_of_any_host() -> None:
    root = make("root", hosts=(), ssl=CertificateSecrets("CERT", "KEY"))
    assert followed(root, make("api", hosts=(), path_prefixes=("/api",)))[1].ssl is True


def test_where_nothing_is_to_follow_nothing_is_made() -> None:
    services = {each.name: each for each in (ROOT, make("other"))}
    assert follow_roots(services, {}) is services
    same = make("api", hosts=("a.example",), path_prefixes=("/api",), ssl=True, ssl_redirect=False)
    assert followed(ROOT, same)[1] is same


def test_what_follows_stays_the_same_object_as_long_as_nothing_changes() -> None:
    services = {each.name: each for each in (ROOT, API)}
    first = follow_roots(services, {})
    assert follow_roots(services, first)["api"] is first["api"]
    changed = {**services, "root": make("root", hosts=("a.example",))}
    assert follow_roots(changed, first)["api"] is API


def test_the_snapshot_has_what_is_followed_and_keeps_it() -> None:
    case = Case(ROOT, API, up=(A,))
    before = case.plane.snapshots[-1].services
    assert settings(before[1].service) == (True, False)
    case.controller.publish()
    after = case.plane.snapshots[-1].services
    assert [a is b for a, b in zip(before, after, strict=True)] == [True, True]
    assert case.controller.services() == [ROOT, API]
    assert [each["tls"] for each in case.controller.describe()] == [True, True]


def test_a_service_whose_ssl_counts_for_nothing_is_told_so() -> None:
    case = Case(make("root", hosts=("a.example",)), up=(A,))
    told: list[Event] = []
    wanted = make("api", hosts=("a.example",), path_prefixes=("/api",), ssl=True)
    case.deploy(wanted, told.append)
    message = "api has no HTTPS: the service on the root path of its host has none"
    assert {"event": "warning", "message": message} in told


def test_a_service_that_nobody_can_reach_by_https_is_told_so() -> None:
    case = Case()
    case.say(A)
    told: list[Event] = []
    case.controller.changes.why_no_https = lambda: "it is turned off"
    case.deploy(make("app", hosts=("a.example",)), told.append)
    assert not [event for event in told if event["event"] == "warning"]
    case.deploy(make("app", hosts=("a.example",), ssl=True), told.append)
    message = "app can't be reached by HTTPS: it is turned off"
    assert {"event": "warning", "message": message} in told
