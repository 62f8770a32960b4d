"""The proxy section, key by key (behaviour.md section 2)."""

from __future__ import annotations

from typing import Any

import pytest

from kproxy.config.model import Buffering, CertificateSecrets, Healthcheck, Logging, Run, Service
from kproxy.config.node import Node, Report
from kproxy.config.sections import PROXY
from tests.unit.config.helpers import Files, with_proxy

MINIMAL = "service: app\nservers: [10.0.0.1]\n"


def problem(files: Files, section: str) -> str:
    """The one problem of a proxy section, without its position."""
    (line,) = files.problems(with_proxy(section))
    return line.split(": ", 1)[1]


def test_a_file_that_says_nothing_gets_the_defaults(files: Files) -> None:
    service = files.service(MINIMAL)
    assert service == Service(
        name="app-web", targets=service.targets, secrets_files=service.secrets_files
    )
    assert service.hosts == ()
    assert service.path_prefixes == ("/",)
    assert service.targets[0].port == 80
    assert service.forward_headers
    assert service.response_timeout == 30
    assert service.strip_path_prefix
    assert service.healthcheck == Healthcheck("/up", 1, 5)
    assert service.buffering == Buffering(True, True, 2**30, 0, 2**20)
    assert service.logging == Logging(("Cache-Control", "Last-Modified", "User-Agent"), ())


def test_a_key_with_nothing_behind_it_gets_the_default(files: Files) -> None:
    service = files.proxy("host:\napp_port:\nbuffering:\nhealthcheck: {path: }\n")
    assert service.hosts == ()
    assert service.healthcheck.path == "/up"


def test_host_may_be_comma_separated(files: Files) -> None:
    assert files.proxy("host: a.b, c.d,a.b").hosts == ("a.b", "c.d")


def test_hosts_is_a_list(files: Files) -> None:
    assert files.proxy("hosts: [a.b, '*.c.d']").hosts == ("a.b", "*.c.d")
    assert problem(files, "hosts: a.b") == 'proxy.hosts: should be a list, is "a.b"'


def test_giving_host_and_hosts_is_an_error(files: Files) -> None:
    assert problem(files, "host: a\nhosts: [b]") == "proxy: host and hosts can't both be given"


def test_hosts_ignore_case_and_a_trailing_dot(files: Files) -> None:
    assert files.proxy("host: Www.Example.COM.").hosts == ("www.example.com",)


@pytest.mark.parametrize(
    "host",
    ["a_b", "a b", "a..b", "*", "a.*.b", "*a.b", "**.a", "a:80", "ä.de", ".a", "a/b", "-a", "a,,b"],
)
def test_a_host_is_letters_digits_dashes_dots_and_a_wildcard_in_front(
    files: Files, host: str
) -> None:
    assert problem(files, f'host: "{host}"').startswith("proxy.host: should be ")


@pytest.mark.parametrize("port", ["0", "65536", "-1", "3.5", "http", "true", "[80]"])
def test_a_port_is_an_integer_from_1_to_65535(files: Files, port: str) -> None:
    assert problem(files, f"app_port: {port}").startswith("proxy.app_port: should be an integer")


@pytest.mark.parametrize(
    ("written", "prefixes"),
    [
        ("/api", ("/api",)),
        ("/api/", ("/api",)),
        ("api", ("/api",)),
        ("/", ("/",)),
        ("/a, /b/c,/a", ("/a", "/b/c")),
        ("[/a, /b]", ("/a", "/b")),
    ],
)
@pytest.mark.parametrize("key", ["path_prefix", "path_prefixes"])
def test_path_prefixes_are_comma_separated_or_a_list(
    files: Files, key: str, written: str, prefixes: tuple[str, ...]
) -> None:
    assert files.proxy(f"{key}: {written}").path_prefixes == prefixes


@pytest.mark.parametrize(
    "prefix", ["/a//b", "/../a", "/./a", "/a?b", "/a%2f", "/a b", "/ä", "'/#'"]
)
def test_a_path_prefix_can_not_be_ambiguous(files: Files, prefix: str) -> None:
    assert problem(files, f"path_prefix: {prefix}").startswith("proxy.path_prefix: should ")


def test_giving_path_prefix_and_path_prefixes_is_an_error(files: Files) -> None:
    text = "path_prefix: /a\npath_prefixes: [/b]"
    assert problem(files, text) == "proxy: path_prefix and path_prefixes can't both be given"


def test_stripping_the_prefix_can_be_switched_off(files: Files) -> None:
    assert not files.proxy("strip_path_prefix: false").strip_path_prefix


def test_a_boolean_may_be_any_word_of_yaml_for_it(files: Files) -> None:
    assert not files.proxy("forward_headers: off").forward_headers
    assert problem(files, "forward_headers: 'true'") == (
        'proxy.forward_headers: should be true or false, is "true"'
    )


@pytest.mark.parametrize("seconds", ["0", "-1", "soon", ".inf", ".nan", "30s"])
def test_a_response_timeout_is_a_number_of_seconds(files: Files, seconds: str) -> None:
    assert problem(files, f"response_timeout: {seconds}").startswith(
        "proxy.response_timeout: should be a number of seconds, more than 0, is "
    )


def test_a_timeout_may_be_a_fraction(files: Files) -> None:
    assert files.proxy("response_timeout: 0.5").response_timeout == 0.5


def test_healthchecks_have_a_path_an_interval_and_a_timeout(files: Files) -> None:
    service = files.proxy("healthcheck: {path: /health, interval: 3, timeout: 2}")
    assert service.healthcheck == Healthcheck("/health", 3, 2)
    assert problem(files, "healthcheck: {path: up}") == (
        'proxy.healthcheck.path: should begin with a slash, is "up"'
    )
    assert problem(files, "healthcheck: {interval: 0}").endswith("more than 0, is 0")


def test_buffering_can_be_set_in_every_respect(files: Files) -> None:
    service = files.proxy(
        "buffering: {requests: false, responses: false, max_request_body: 1, "
        "max_response_body: 2, memory: 3}"
    )
    assert service.buffering == Buffering(False, False, 1, 2, 3)


def test_requests_that_are_not_buffered_have_no_limit_unless_one_is_written(files: Files) -> None:
    def limit(buffering: str) -> int:
        return files.proxy(f"buffering: {buffering}").buffering.max_request_body

    assert limit("{responses: false}") == 2**30
    assert limit("{requests: true}") == 2**30
    assert limit("{requests: false}") == 0
    assert limit("{requests: false, max_request_body: 5}") == 5
    assert limit("{requests: false, max_request_body: }") == 0


def test_a_limit_of_the_root_section_holds_for_a_role_that_does_not_buffer(files: Files) -> None:
    text = """
        service: app
        proxy: {buffering: {max_request_body: 5}}
        servers: {web: {hosts: [a], proxy: {buffering: {requests: false}}}}
        """
    assert files.service(text).buffering.max_request_body == 5


@pytest.mark.parametrize("key", ["max_request_body", "max_response_body", "memory"])
def test_a_size_is_not_negative(files: Files, key: str) -> None:
    assert problem(files, f"buffering: {{{key}: -1}}") == (
        f"proxy.buffering.{key}: should be an integer, at least 0, is -1"
    )


def test_the_log_shows_the_headers_that_are_listed(files: Files) -> None:
    service = files.proxy("logging: {request_headers: [X-A], response_headers: [X-B]}")
    assert service.logging == Logging(("X-A",), ("X-B",))
    assert problem(files, "logging: {request_headers: ['X A']}") == (
        'proxy.logging.request_headers: should be the name of a header, is "X A"'
    )


def test_run_says_how_the_proxy_listens(files: Files) -> None:
    text = "run: {http_port: 81, https_port: 82, metrics_port: 9, bind_ips: ['[::1]'], debug: on}"
    configuration = files.load(with_proxy(text))
    assert configuration.run == Run(81, 82, 9, ("::1",), True)
    assert files.load(MINIMAL).run == Run()


def test_what_run_says_to_docker_is_ignored(files: Files) -> None:
    text = "run: {publish: false, version: v1, options: {label: [a]}, log_max_size: 1m}"
    assert files.load(with_proxy(text)).run == Run()


def test_run_takes_no_port_or_address_that_can_not_be(files: Files) -> None:
    assert "run.http_port" in problem(files, "run: {http_port: 0}")
    assert problem(files, "run: {bind_ips: [localhost]}") == (
        'proxy.run.bind_ips: should be an IP address, is "localhost"'
    )


def test_two_files_can_not_run_the_proxy_differently(files: Files) -> None:
    first, second = (
        f"service: s{port}\nservers: [a]\nproxy: {{host: h{port}, run: {{http_port: {port}}}}}\n"
        for port in (81, 82)
    )
    assert files.problems(first, second) == [
        "deploy1.yml:3:25: proxy.run: differs from deploy.yml:3, and one proxy has only one of it"
    ]


def test_a_proxy_is_a_map(files: Files) -> None:
    assert files.problems(MINIMAL + "proxy: true\n") == [
        "deploy.yml:3:8: proxy: should be a map, is true"
    ]


class TestSsl:
    """What can be said of ``ssl`` without a look at a certificate."""

    @staticmethod
    def text(section: str, servers: str = "[a]", more: str = "") -> str:
        return f"service: app\nservers: {servers}\n{more}proxy:\n  {section}\n"

    def problems(self, files: Files, *parts: str) -> list[str]:
        return [line.split(": ", 1)[1] for line in files.problems(self.text(*parts))]

    def service(self, files: Files, *parts: str, **more: Any) -> Service:
        return files.service(self.text(*parts), **more)

    def test_automatic_certificates_need_a_host(self, files: Files) -> None:
        assert self.problems(files, "ssl: true") == [
            "proxy.ssl: automatic certificates need a host"
        ]

    def test_the_host_may_be_left_to_an_on_demand_url(self, files: Files) -> None:
        more = "x-kproxy: {tls_on_demand_url: /allowed}\n"
        service = self.service(files, "ssl: true", "[a]", more)
        assert (service.ssl, service.tls_on_demand_url) == (True, "/allowed")

    def test_a_wildcard_needs_dns_01(self, files: Files) -> None:
        (line,) = self.problems(files, "{ssl: true, host: '*.a.b'}")
        assert line.startswith("proxy.ssl: a certificate for *.a.b can only be had by DNS-01")

    def test_a_wildcard_with_dns_01_is_fine(self, files: Files) -> None:
        text = with_proxy("{ssl: true, host: '*.a.b'}") + "\nx-kproxy: {acme: {dns: fake}}\n"
        assert files.service(text, dns_responders={"fake": Nothing()}).ssl is True

    def test_automatic_certificates_need_one_server_and_the_error_says_what_else(
        self, files: Files
    ) -> None:
        (line,) = self.problems(files, "{ssl: true, host: a.b}", "[a, b]")
        assert line == (
            "proxy.ssl: automatic certificates need a single server, and there are 2; a proxy that "
            "stands before several servers lists them under x-kproxy.targets, and several "
            "proxies share an x-kproxy.acme.store"
        )

    def test_several_servers_under_x_kproxy_targets_are_fine(self, files: Files) -> None:
        more = "x-kproxy: {targets: [c, d]}\n"
        assert self.service(files, "{ssl: true, host: a.b}", "[a, b]", more).ssl is True

    def test_several_servers_that_share_a_store_are_fine(self, files: Files) -> None:
        more = "x-kproxy: {acme: {store: fake}}\n"
        parts = ("{ssl: true, host: a.b}", "[a, b]", more)
        assert self.service(files, *parts, stores={"fake": Nothing()}).ssl is True
        one = self.service(files, *parts, stores={"fake": Nothing()}, server="a")
        assert [target.host for target in one.targets] == ["a"]

    def test_a_pair_of_secrets_needs_neither_host_nor_a_single_server(self, files: Files) -> None:
        section = "ssl: {certificate_pem: CERT, private_key_pem: KEY}"
        assert self.service(files, section, "[a, b]").ssl == CertificateSecrets("CERT", "KEY")

    @pytest.mark.parametrize(
        ("written", "missing"),
        [("certificate_pem", "private_key_pem"), ("private_key_pem", "certificate_pem")],
    )
    def test_secrets_come_in_pairs(self, files: Files, written: str, missing: str) -> None:
        assert problem(files, f"ssl: {{{written}: NAME}}") == (
            f"proxy.ssl: {missing} is missing; it goes with {written}"
        )

    def test_ssl_is_a_boolean_or_a_map(self, files: Files) -> None:
        assert problem(files, "ssl: auto") == (
            'proxy.ssl: should be true or false or a map of two secrets, is "auto"'
        )

    def test_a_pair_of_secrets_is_read_as_names(self, files: Files) -> None:
        node = read(files, "ssl: {certificate_pem: CERT, private_key_pem: KEY}")
        assert PROXY.read(node, Report()).ssl == CertificateSecrets("CERT", "KEY")

    def test_headers_are_not_forwarded_with_ssl_unless_the_file_says_so(self, files: Files) -> None:
        service = files.proxy("{ssl: true, host: a.b}")
        assert service.ssl is True
        assert not service.forward_headers
        assert files.proxy("{ssl: true, host: a.b, forward_headers: true}").forward_headers


class Nothing:
    """A plug-in without options."""

    def validate(self, node: Node, report: Report) -> object:
        return None


def read(files: Files, section: str) -> Node:
    """A proxy section as a node."""
    from kproxy.config.yamlfile import read_map

    node = read_map(files.write(with_proxy(section)), {}, Report()).get("proxy")
    assert node is not None
    return node
