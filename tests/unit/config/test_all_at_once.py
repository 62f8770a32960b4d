"""All problems of a file in one go, also those that span options (behaviour.md section 1)."""

from __future__ import annotations

from typing import Any

import pytest

from kproxy.config.model import Service, Target
from kproxy.config.node import Node, Report
from tests.unit.config.helpers import Files, with_proxy

MINIMAL = "service: app\nservers: [10.0.0.1]\n"


def said(files: Files, *texts: str, **more: Any) -> list[str]:
    """The problems without their positions."""
    return [line.split(": ", 1)[1] for line in files.problems(*texts, **more)]


def test_a_rule_between_options_does_not_wait_for_the_others_to_be_right(files: Files) -> None:
    text = with_proxy("host: a.b\nhosts: [c.d]\napp_port: x\npath_prefix: /a\npath_prefixes: b c")
    assert said(files, text) == [
        "proxy: host and hosts can't both be given",
        "proxy: path_prefix and path_prefixes can't both be given",
        'proxy.app_port: should be an integer, is "x"',
        (
            "proxy.path_prefixes: should be a path of printable ASCII characters, without %, ?, #, "
            'comma or backslash, is "b c"'
        ),
    ]


def test_half_a_pair_is_reported_also_if_that_half_is_wrong(files: Files) -> None:
    assert said(files, with_proxy("ssl: {certificate_pem: 3}")) == [
        "proxy.ssl: private_key_pem is missing; it goes with certificate_pem",
        "proxy.ssl.certificate_pem: should be text, is 3; put quotes around it",
    ]


def test_the_rules_of_ssl_are_reported_beside_a_value_that_is_wrong(files: Files) -> None:
    text = "service: app\nservers: [a, b]\nproxy:\n  ssl: true\n  app_port: x\n"
    assert said(files, text) == [
        "proxy.ssl: automatic certificates need a host",
        (
            "proxy.ssl: automatic certificates need a single server, and there are 2; a proxy that "
            "stands before several servers lists them under x-kproxy.targets, and several "
            "proxies share an x-kproxy.acme.store"
        ),
        'proxy.app_port: should be an integer, is "x"',
    ]


def test_ssl_does_not_ask_for_a_host_that_could_not_be_read(files: Files) -> None:
    for section in ("ssl: true\nhost: a_b", "ssl: true\nhosst: a.b", "ssl: true\nhosts: [c, 3]"):
        (problem,) = said(files, with_proxy(section))
        assert "need a host" not in problem


def test_ssl_does_not_ask_for_a_responder_that_could_not_be_read(files: Files) -> None:
    text = with_proxy("{ssl: true, host: '*.a.b'}") + "\nx-kproxy: {acme: {dns: other}}\n"
    (problem,) = said(files, text)
    assert problem.startswith('x-kproxy.acme.dns: there is no DNS-01 responder "other"')


def test_ssl_does_not_ask_for_targets_that_could_not_be_read(files: Files) -> None:
    text = "service: app\nservers: [a, b]\nproxy: {ssl: true, host: a.b}\n"
    (problem,) = said(files, text + "x-kproxy: {targets: a}\n")
    assert problem.startswith("x-kproxy.targets: should be a list")


def test_a_conflict_is_reported_beside_a_value_that_is_wrong(files: Files) -> None:
    first = "service: one\nservers: [a]\nproxy: {host: a.b, response_timeout: x}\n"
    second = "service: two\nservers: [a]\nproxy: {host: a.b}\ndrain_timeout: x\n"
    assert said(files, first, second) == [
        'proxy.response_timeout: should be a number of seconds, more than 0, is "x"',
        (
            "proxy.host: two-web can't have a.b, path /: one-web has it "
            f"({files.folder}/deploy.yml:3)"
        ).replace(f"{files.folder}/", ""),
        'drain_timeout: should be a number of seconds, at least 0, is "x"',
    ]


def test_a_service_whose_host_could_not_be_read_claims_nothing(files: Files) -> None:
    first = "service: one\nservers: [a]\n"
    for wrong in ("host: a_b", "hosst: a.b", "path_prefix: a b"):
        (problem,) = said(files, first, f"service: two\nservers: [a]\nproxy: {{{wrong}}}\n")
        assert "can't have" not in problem


def test_a_role_that_may_be_the_same_once_it_is_right_is_no_conflict(files: Files) -> None:
    text = (
        "service: app\nservers:\n  web: [a]\n"
        "  more: {hosts: [b], proxy: {response_timeout: x}}\n"
        "proxy: {host: a.b, response_timeout: 5}\n"
    )
    (problem,) = said(files, text)
    assert problem.startswith("servers.more.proxy.response_timeout: should be")


def test_a_wrapper_that_could_not_be_read_makes_no_conflict(files: Files) -> None:
    text = (
        "service: app\nservers: {web: [a], more: {hosts: [b], proxy: true}}\n"
        "x-kproxy: {roles: {more: {wrappers: [none]}}}\n"
    )
    (problem,) = said(files, text)
    assert problem.startswith('x-kproxy.roles.more.wrappers: there is no wrapper "none"')


def test_services_without_a_readable_name_do_not_share_one(files: Files) -> None:
    first, second = (f"servers: [a]\nproxy: {{host: {host}}}\n" for host in ("a.b", "c.d"))
    assert said(files, first, second) == ["service is missing", "service is missing"]


def test_the_same_name_twice_is_reported_beside_a_value_that_is_wrong(files: Files) -> None:
    first = f"{MINIMAL}proxy: {{host: a.b}}\n"
    second = f"{MINIMAL}proxy: {{host: c.d, app_port: 0}}\n"
    assert len(said(files, first, second)) == 2


def test_nothing_proxied_is_reported_beside_a_value_that_is_wrong(files: Files) -> None:
    text = "service: app\nservers: {web: {hosts: [a], proxy: false}}\ndrain_timeout: x\n"
    assert said(files, text) == [
        "nothing is proxied: no role of servers, and no accessory",
        'drain_timeout: should be a number of seconds, at least 0, is "x"',
    ]


def test_roles_that_could_not_be_read_are_not_said_to_be_missing(files: Files) -> None:
    assert len(said(files, "service: app\nservers: 3\n")) == 1
    assert len(said(files, "service: app\nprimary_role: 3\nservers: {front: [a]}\n")) == 1
    assert len(said(files, "service: app\naccessories: 3\n")) == 1


def test_a_role_whose_hosts_could_not_be_read_is_not_said_to_have_none(files: Files) -> None:
    for servers in ("['a b']", "{web: ['a b']}", "{web: {hosts: 3}}"):
        assert len(said(files, f"service: app\nservers: {servers}\n")) == 1
    accessory = "accessories: {x: {host: a b, proxy: {host: a.b}}}\n"
    assert len(said(files, MINIMAL + accessory)) == 1


def test_a_role_without_hosts_is_reported_beside_a_value_that_is_wrong(files: Files) -> None:
    text = "service: app\nservers: {web: []}\nproxy: {app_port: x}\n"
    assert len(said(files, text)) == 2


def test_acme_is_looked_at_as_a_whole(files: Files) -> None:
    text = MINIMAL + (
        "x-kproxy:\n  acme:\n    directory: here\n    challenges: [dns-01]\n"
        "    ca_file: none.pem\n  workers: -1\n"
    )
    assert [line.partition(": ")[0] for line in said(files, text)] == [
        "x-kproxy.acme.directory",
        "x-kproxy.acme.challenges",
        "x-kproxy.acme.ca_file",
        "x-kproxy.workers",
    ]


def test_wrappers_are_looked_at_even_if_no_role_could_be_read(files: Files) -> None:
    text = "service: app\nservers: 3\nx-kproxy: {wrappers: [none], roles: {web: {wrappers: [n]}}}\n"
    assert len([line for line in said(files, text) if "there is no wrapper" in line]) == 2


def many_roles(more: str = "") -> str:
    roles = "".join(f"  r{n}: {{hosts: [a], proxy: {{host: h{n}.b}}}}\n" for n in range(200))
    return f"service: app\nprimary_role: r0\n{more}servers:\n{roles}"


def test_a_role_is_not_compared_with_every_other(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    comparisons = 0
    compare = Service.__eq__

    def counted(one: Service, other: object) -> bool:
        nonlocal comparisons
        comparisons += 1
        return compare(one, other)

    monkeypatch.setattr(Service, "__eq__", counted)
    assert len(files.load(many_roles()).services) == 200
    assert comparisons < 200


def test_what_holds_for_all_roles_is_validated_only_a_few_times(files: Files) -> None:
    class Counts:
        validated = 0

        def validate(self, node: Node, report: Report) -> object:
            self.validated += 1
            return None

    plugin = Counts()
    files.load(many_roles("x-kproxy: {wrappers: [it]}\n"), wrappers={"it": plugin})
    assert 0 < plugin.validated < 5


def test_many_roles_that_are_the_same_are_one_service_with_each_target_once(files: Files) -> None:
    roles = "".join(f"  r{n}: {{hosts: [h{n}, shared], proxy: true}}\n" for n in range(50))
    service = files.service(f"service: app\nprimary_role: r0\nservers:\n{roles}")
    assert service.name == "app-r0"
    assert len(service.targets) == 51
    assert service.targets[:3] == (Target("h0", 80), Target("shared", 80), Target("h1", 80))


def test_roles_with_wrappers_that_differ_are_not_the_same(files: Files) -> None:
    class Options:
        def validate(self, node: Node, report: Report) -> object:
            return {"by": [key for key, _ in node.items()]}  # a dict: it has no hash

    text = (
        "service: app\nservers: {web: [a], two: {hosts: [b], proxy: true}, "
        "three: {hosts: [c], proxy: true}}\n"
        "x-kproxy: {wrappers: [it: {x: 1}], roles: {two: {wrappers: [it: {y: 1}]}}}\n"
    )
    problems = said(files, text, wrappers={"it": Options()})
    assert len(problems) == 1
    assert "app-two can't have any host, path /: app-web has it" in problems[0]
