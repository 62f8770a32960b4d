"""Servers, roles, targets, accessories, and several files (behaviour.md section 1)."""

from __future__ import annotations

import pytest

from kproxy.config.model import Target
from tests.unit.config.helpers import Files

MINIMAL = "service: app\nservers: [10.0.0.1]\n"


def targets(*texts: str) -> tuple[Target, ...]:
    pairs = (text.rsplit(":", 1) for text in texts)
    return tuple(Target(host, int(port)) for host, port in pairs)


def test_a_list_of_servers_is_the_role_web(files: Files) -> None:
    service = files.service("service: app\nservers: [10.0.0.1, b.local]\n")
    assert service.name == "app-web"
    assert service.targets == targets("10.0.0.1:80", "b.local:80")


def test_a_hosts_own_port_wins_over_app_port(files: Files) -> None:
    service = files.service(
        "service: app\nproxy: {app_port: 3000}\nservers: [a, 'b:3001', '[::1]:3002', '[::2]']\n"
    )
    assert service.targets == (
        Target("a", 3000),
        Target("b", 3001),
        Target("::1", 3002),
        Target("::2", 3000),
    )
    assert str(service.targets[2]) == "[::1]:3002"


def test_a_host_may_have_tags(files: Files) -> None:
    service = files.service("service: app\nservers: {web: [{a: one}, {'b:81': [one, two]}]}\n")
    assert service.targets == targets("a:80", "b:81")


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("'::1'", 'should have brackets around an IPv6 address: [::1] or [::1]:3000, is "::1"'),
        ("'[1]'", 'should have an IPv6 address between the brackets, is "[1]"'),
        ("a:0", 'should have a port from 1 to 65535, is "a:0"'),
        ("a:65536", 'should have a port from 1 to 65535, is "a:65536"'),
        ("a:x", 'should have a port from 1 to 65535, is "a:x"'),
        ("'a b'", 'should be a host name or an address, perhaps with :PORT, is "a b"'),
        (
            "'http://a:80'",
            'should be a host name or an address, perhaps with :PORT, and no URL, is "http://a:80"',
        ),
        ("3", "should be text, is 3; put quotes around it"),
        ("{a: 1}", "should be text, is 1; put quotes around it"),
        ("{a: x, b: y}", "should be one host, or one HOST: TAGS"),
    ],
)
def test_a_host_that_can_not_be_is_a_problem(files: Files, host: str, message: str) -> None:
    (problem,) = files.problems(f"service: app\nservers:\n  web:\n  - {host}\n  - good\n")
    assert problem.startswith("deploy.yml:4:")
    assert problem.endswith(message)


def test_only_the_primary_role_is_proxied_by_default(files: Files) -> None:
    service = files.service("service: app\nservers: {web: [a], job: [b]}\n")
    assert (service.name, service.targets) == ("app-web", targets("a:80"))


def test_the_primary_role_may_have_another_name(files: Files) -> None:
    text = "service: app\nprimary_role: front\nservers: {front: [a], web: [b]}\n"
    assert files.service(text).name == "app-front"


def test_a_primary_role_that_is_not_there_gets_the_nearest_name(files: Files) -> None:
    problems = files.problems("service: app\nprimary_role: frnt\nservers: {front: [a]}\n")
    assert problems == [
        'deploy.yml:2:15: primary_role: there is no role "frnt"; did you mean "front"?'
    ]


def test_the_primary_role_is_not_proxied_if_it_says_false(files: Files) -> None:
    text = """
        service: app
        servers:
          web: {hosts: [a], proxy: false}
          api: {hosts: [b], proxy: true}
          job: {hosts: [c], proxy: false}
        """
    assert files.service(text).name == "app-api"


def test_a_file_that_proxies_nothing_is_a_problem(files: Files) -> None:
    text = "service: app\nservers: {web: {hosts: [a], proxy: false}}\n"
    assert files.problems(text) == [
        "deploy.yml:1:1: nothing is proxied: no role of servers, and no accessory"
    ]


def test_a_roles_own_section_is_merged_deeply_over_the_root(files: Files) -> None:
    text = """
        service: app
        servers:
          web: [a]
          api:
            hosts: [b]
            proxy: {host: api.example.com, buffering: {memory: 9}}
        proxy:
          hosts: [example.com]
          app_port: 3000
          buffering: {requests: false, memory: 1}
        """
    web, api = files.load(text).services
    assert (web.hosts, web.buffering.memory) == (("example.com",), 1)
    assert (api.hosts, api.buffering.memory) == (("api.example.com",), 9)
    assert not api.buffering.requests
    assert api.targets == targets("b:3000")


def test_a_problem_in_a_merged_section_names_where_it_is_written(files: Files) -> None:
    text = (
        "service: app\nproxy: {app_port: x}\nservers:\n  web: []\n"
        "  api: {hosts: [b], proxy: {host: a_b}}\n"
    )
    keys = [problem.split(": ")[1] for problem in files.problems(text)]
    assert keys == ["proxy.app_port", "servers.web", "servers.api.proxy.host"]


def test_a_roles_proxy_is_a_map_or_true_or_false(files: Files) -> None:
    text = "service: app\nservers: {web: {hosts: [a], proxy: maybe}}\n"
    assert files.problems(text)[0].endswith(
        'servers.web.proxy: should be true, false or a map, is "maybe"'
    )


def test_an_unknown_key_of_a_role_gets_the_nearest_name(files: Files) -> None:
    text = "service: app\nservers: {web: {hosts: [a], prox: true, cmd: x}}\n"
    assert files.problems(text)[0].endswith(
        'servers.web.prox: is not a known option; did you mean "proxy"?'
    )


def test_a_proxied_role_needs_hosts_unless_empty_roles_are_allowed(files: Files) -> None:
    text = "service: app\nservers: {web: []}\n"
    assert files.problems(text) == [
        "deploy.yml:2:11: servers.web: app-web has no hosts to send requests to"
    ]
    assert files.load(text + "allow_empty_roles: true\n").services == ()


def test_servers_are_a_list_or_a_map(files: Files) -> None:
    assert "servers: should be a list of hosts or a map of roles, is 3" in "\n".join(
        files.problems("service: app\nservers: 3\n")
    )


TWO_ROLES = """
    service: app
    servers:
      web: [a, b]
      more: {hosts: [b, c], proxy: true}
    proxy: {host: example.com}
    """


def test_roles_that_come_out_the_same_are_one_service_named_after_the_first(files: Files) -> None:
    service = files.service(TWO_ROLES)
    assert service.name == "app-web"
    assert service.targets == targets("a:80", "b:80", "c:80")


def test_the_same_hosts_and_paths_with_different_options_are_an_error(files: Files) -> None:
    text = TWO_ROLES.replace("proxy: true", "proxy: {response_timeout: 5}")
    assert files.problems(text) == [
        (
            "deploy.yml:6:15: proxy.host: app-more can't have example.com, path /: app-web has it "
            "(deploy.yml:6)"
        )
    ]


def test_the_same_host_with_different_paths_is_two_services(files: Files) -> None:
    text = TWO_ROLES.replace("proxy: true", "proxy: {path_prefix: /api}")
    assert [service.name for service in files.load(text).services] == ["app-web", "app-more"]


def test_two_files_can_not_claim_the_same_host_and_path(files: Files) -> None:
    first = "service: one\nservers: [a]\nproxy: {host: 'a.b, c.d', path_prefix: '/x,/y'}\n"
    second = "service: two\nservers: [b]\nproxy: {host: C.D, path_prefix: y/}\n"
    assert files.problems(first, second) == [
        (
            "deploy1.yml:3:15: proxy.host: two-web can't have c.d, path /y: "
            "one-web has it (deploy.yml:3)"
        )
    ]


def test_two_services_without_host_can_not_claim_the_same_path(files: Files) -> None:
    (problem,) = files.problems(MINIMAL, MINIMAL.replace("app", "two"))
    assert "two-web can't have any host, path /: app-web has it" in problem


def test_two_files_can_not_declare_one_service(files: Files) -> None:
    first, second = (f"{MINIMAL}proxy: {{host: {host}}}\n" for host in ("a.b", "c.d"))
    assert files.problems(first, second) == [
        "deploy1.yml:3:15: proxy.host: the service app-web is declared at deploy.yml:3 too"
    ]


def test_several_applications_share_a_proxy(files: Files) -> None:
    texts = (f"service: {n}\nservers: [a]\nproxy: {{host: {n}.com}}\n" for n in ("one", "two"))
    assert [each.name for each in files.load(*texts).services] == ["one-web", "two-web"]


def test_with_a_server_only_its_roles_are_served_with_it_as_their_target(files: Files) -> None:
    text = """
        service: app
        servers:
          web: [a, 'b:3001']
          api: {hosts: [b], proxy: {host: api.example.com}}
          job: [b]
        """
    assert [(s.name, s.targets) for s in files.load(text, server="b").services] == [
        ("app-web", targets("b:3001")),
        ("app-api", targets("b:80")),
    ]
    assert [s.name for s in files.load(text, server="a").services] == ["app-web"]


def test_what_another_server_serves_is_checked_all_the_same(files: Files) -> None:
    text = "service: app\nservers: {web: [a], api: {hosts: [b], proxy: {app_port: x}}}\n"
    assert len(files.problems(text, server="a")) == 1


def test_a_server_that_no_role_lists_is_a_problem(files: Files) -> None:
    assert files.problems(MINIMAL, server="z") == [
        'deploy.yml:1:1: servers: no proxied role lists the server "z"'
    ]


def test_an_accessory_with_a_proxy_is_a_service(files: Files) -> None:
    text = MINIMAL + (
        "accessories:\n  mail: {host: m, proxy: {host: mail.example.com, app_port: 8025}}\n"
        "  two: {hosts: [m, n], proxy: {host: two.example.com}}\n  db: {host: d}\n"
    )
    services = files.load(text).services
    assert [(s.name, s.targets) for s in services[1:]] == [
        ("app-mail", targets("m:8025")),
        ("app-two", targets("m:80", "n:80")),
    ]


def test_an_accessory_does_not_get_the_roots_options(files: Files) -> None:
    text = MINIMAL + (
        "proxy: {host: a.b, response_timeout: 3}\nx-kproxy: {client_ip_header: X-Real-IP}\n"
        "accessories: {mail: {host: m, proxy: {host: mail.example.com}}}\n"
    )
    mail = files.load(text).services[1]
    assert (mail.response_timeout, mail.client_ip_header) == (30, None)


def test_an_accessory_may_run_where_roles_or_tags_say(files: Files) -> None:
    text = """
        service: app
        servers: {web: [a, {b: special}], job: [c]}
        accessories:
          one: {role: job, proxy: {host: one.b}}
          two: {tags: [special], proxy: {host: two.b}}
        """
    _, one, two = files.load(text).services
    assert (one.targets, two.targets) == (targets("c:80"), targets("b:80"))


def test_an_accessorys_proxy_is_a_map(files: Files) -> None:
    text = MINIMAL + "accessories: {mail: {host: m, proxy: true}}\n"
    assert files.problems(text)[0].endswith("accessories.mail.proxy: should be a map, is true")


@pytest.mark.parametrize("no", ["false", "no", "Off"])
def test_an_accessory_that_says_no_is_not_proxied(files: Files, no: str) -> None:
    text = MINIMAL + f"accessories: {{mail: {{host: m, proxy: {no}}}}}\n"
    assert [service.name for service in files.load(text).services] == ["app-web"]


def test_a_proxied_accessory_needs_a_host(files: Files) -> None:
    text = MINIMAL + "accessories: {mail: {image: m, proxy: {host: a.b}}}\n"
    assert files.problems(text)[0].endswith(
        "accessories.mail: app-mail has no hosts to send requests to"
    )
