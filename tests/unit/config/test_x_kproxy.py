"""x-kproxy: what Kamal has no key for (behaviour.md section 7)."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from kproxy.config.model import (
    LETS_ENCRYPT,
    LETS_ENCRYPT_STAGING,
    Acme,
    ExternalAccount,
    Target,
    WrapperUse,
)
from kproxy.config.node import Node, Report
from kproxy.config.schema import Integer, Option, Rejected, Section
from tests.unit.config.helpers import Files

MINIMAL = "service: app\nservers: {web: [a], api: {hosts: [b], proxy: {host: api.b}}}\n"


@dataclass(frozen=True)
class Limit:
    requests: int = 10


class Plugin:
    """A wrapper that takes `requests`, and may fail at that."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.failure = failure

    def validate(self, node: Node, report: Report) -> object:
        if self.failure:
            raise self.failure
        return Section(Option("requests", Integer(minimum=1)), into=Limit).read(node, report)


def with_extras(text: str) -> str:
    return f"{MINIMAL}x-kproxy:\n  {text}\n"


def only_problem(files: Files, text: str, plugin: Plugin | None = None) -> str:
    (line,) = files.problems(with_extras(text), wrappers={"rate-limit": plugin or Plugin()})
    return line


def test_its_keys_hold_for_every_role(files: Files) -> None:
    text = """
        service: app
        servers: {web: [a], api: {hosts: [b], proxy: {host: api.b}}}
        x-kproxy:
          canonical_host: www.example.com
          client_ip_header: X-Real-IP
          scope_cookie_paths: true
          tls_on_demand_url: http://a/check
          exclude_metrics_paths: [/up]
          healthcheck_port: 9000
          healthcheck_host: app.internal
          read_targets: [r, 'r:81']
          writer_affinity_timeout: 0
        """
    for service in files.load(text).services:
        assert service.canonical_host == "www.example.com"
        assert service.client_ip_header == "X-Real-IP"
        assert service.scope_cookie_paths
        assert service.tls_on_demand_url == "http://a/check"
        assert service.exclude_metrics_paths == ("/up",)
        assert (service.healthcheck.port, service.healthcheck.host) == (9000, "app.internal")
        assert service.read_targets == (Target("r", 80), Target("r", 81))
        assert service.writer_affinity_timeout == 0


def test_keys_under_a_role_hold_for_that_role(files: Files) -> None:
    text = with_extras("{canonical_host: a.b, roles: {api: {canonical_host: c.d}}}")
    web, api = files.load(text).services
    assert (web.canonical_host, api.canonical_host) == ("a.b", "c.d")


def test_a_role_that_is_not_there_gets_the_nearest_name(files: Files) -> None:
    assert only_problem(files, "roles: {aip: {}}") == (
        'deploy.yml:4:16: x-kproxy.roles.aip: there is no role "aip"; did you mean "api"?'
    )


def test_a_problem_of_a_role_is_reported_once_and_where_it_is(files: Files) -> None:
    assert only_problem(files, "roles: {api: {healthcheck_port: x}}") == (
        'deploy.yml:4:35: x-kproxy.roles.api.healthcheck_port: should be an integer, is "x"'
    )


@pytest.mark.parametrize("key", ["workers: 2", "acme: {}", "access_log: x", "roles: {}"])
def test_what_is_for_the_whole_proxy_is_not_for_a_role(files: Files, key: str) -> None:
    line = only_problem(files, f"roles: {{api: {{{key}}}}}")
    assert "is not a known option" in line


def test_an_unknown_key_gets_the_nearest_name(files: Files) -> None:
    assert only_problem(files, "wraper: []").endswith(
        'x-kproxy.wraper: is not a known option; did you mean "wrappers"?'
    )


@pytest.mark.parametrize(
    "text",
    [
        "canonical_host: '*.a.b'",
        "client_ip_header: 'a b'",
        "tls_on_demand_url: ftp://x",
        "exclude_metrics_paths: [up]",
        "healthcheck_port: 0",
        "targets: ['::1']",
        "read_targets: ['a:0']",
        "writer_affinity_timeout: -1",
        "workers: -1",
        "workers: 257",
        "workers: many",
        "acme: {directory: nope}",
        "acme: {directory: 'http://ca.example/dir'}",
        "acme: {challenges: [tls-sni-01]}",
        "acme: {challenges: [dns-01]}",
        "acme: {ca_file: nope.pem}",
        "acme: {eab: {key_id: a}}",
        "acme: {eab: {key_id: a, hmac_key: 'not base64'}}",
        "acme: {email: nobody}",
    ],
)
def test_a_value_that_can_not_be_is_a_problem(files: Files, text: str) -> None:
    assert "x-kproxy." in only_problem(files, text)


def test_workers_are_a_number_or_auto(files: Files) -> None:
    assert files.load(with_extras("workers: 3")).workers == 3
    assert files.load(with_extras("workers: 0")).workers == 0
    assert files.load(with_extras("workers: auto")).workers == "auto"
    assert files.load(MINIMAL).workers is None


def test_the_access_log_starts_at_the_files_folder(files: Files) -> None:
    configuration = files.load(with_extras("access_log: log/access.log"))
    assert configuration.access_log == files.folder / "log/access.log"


def test_acme_is_read(files: Files) -> None:
    files.write("PEM", "ca.pem")
    text = (
        "acme: {directory: 'https://ca/dir', email: a@b, ca_file: ca.pem, challenges: [http-01], "
        "eab: {key_id: k, hmac_key: s}, dns: {fake: {requests: 2}}}"
    )
    assert files.load(with_extras(text), dns_responders={"fake": Plugin()}).acme == Acme(
        directory="https://ca/dir",
        email="a@b",
        ca_file=files.folder / "ca.pem",
        challenges=("http-01",),
        eab=ExternalAccount("k", "s"),
        dns=WrapperUse("fake", Limit(2)),
        secrets_files=(files.folder / ".kamal/secrets-common", files.folder / ".kamal/secrets"),
    )


def test_without_a_dns_responder_the_ca_has_nothing_to_do_with_secrets(files: Files) -> None:
    assert files.load(with_extras("acme: {email: a@b}")).acme.secrets_files == ()


def test_a_certificate_store_is_read_and_may_have_secrets(files: Files) -> None:
    text = "acme: {store: {fake: {requests: 2}}}"
    acme = files.load(with_extras(text), stores={"fake": Plugin()}).acme
    assert acme.store == WrapperUse("fake", Limit(2))
    assert acme.secrets_files[1] == files.folder / ".kamal/secrets"


def test_an_unknown_certificate_store_is_a_problem(files: Files) -> None:
    (line,) = files.problems(with_extras("acme: {store: s3}"), stores={"folder": Plugin()})
    assert line.endswith(
        'x-kproxy.acme.store: there is no certificate store "s3"; installed: folder'
    )


@pytest.mark.parametrize(
    ("name", "url"), [("letsencrypt", LETS_ENCRYPT), ("staging", LETS_ENCRYPT_STAGING)]
)
def test_the_usual_directories_go_by_their_names(files: Files, name: str, url: str) -> None:
    assert files.load(with_extras(f"acme: {{directory: {name}}}")).acme.directory == url


def test_an_unknown_dns_responder_is_a_problem(files: Files) -> None:
    assert only_problem(files, "acme: {dns: route53}").endswith(
        'x-kproxy.acme.dns: there is no DNS-01 responder "route53"; installed: none'
    )


@pytest.mark.parametrize("eab", ["{key_id: k, hmac_key: [s3cret]}", "s3cret", "{hmac_key: 12345}"])
def test_a_secret_option_is_never_quoted(files: Files, eab: str) -> None:
    text = "\n".join(files.problems(with_extras(f"acme: {{eab: {eab}}}")))
    assert "x-kproxy.acme.eab" in text
    assert "s3cret" not in text
    assert "12345" not in text


def test_two_files_can_not_contradict_each_other(files: Files) -> None:
    texts = (
        f"service: s{n}\nservers: [a]\nproxy: {{host: h{n}}}\nx-kproxy: {{workers: {n}}}\n"
        for n in (1, 2)
    )
    assert files.problems(*texts) == [
        (
            "deploy1.yml:4:21: x-kproxy.workers: differs from deploy.yml:4, "
            "and one proxy has only one of it"
        )
    ]


def test_targets_replace_the_roles_hosts(files: Files) -> None:
    text = with_extras("roles: {web: {targets: ['127.0.0.1:3001', '[::1]']}}")
    web, api = files.load(text).services
    assert web.targets == (Target("127.0.0.1", 3001), Target("::1", 80))
    assert api.targets == (Target("b", 80),)


def test_targets_make_servers_unnecessary(files: Files) -> None:
    service = files.service("service: app\nx-kproxy: {targets: ['a:3001']}\n")
    assert (service.name, service.targets) == ("app-web", (Target("a", 3001),))


def test_with_a_server_its_own_entry_among_the_targets_counts(files: Files) -> None:
    text = "service: app\nservers: [a, b]\nx-kproxy: {targets: ['a:3001', 'b:3001']}\n"
    assert files.service(text, server="b").targets == (Target("b", 3001),)


def test_with_a_server_that_only_the_role_lists_all_targets_are_its(files: Files) -> None:
    text = "service: app\nservers: [a]\nx-kproxy: {targets: ['127.0.0.1:1', '127.0.0.1:2']}\n"
    assert len(files.service(text, server="a").targets) == 2


def test_wrappers_are_named_in_order_and_may_appear_twice(files: Files) -> None:
    text = with_extras("wrappers: [rate-limit, rate-limit: {requests: 5}, rate-limit: ]")
    web, _ = files.load(text, wrappers={"rate-limit": Plugin()}).services
    assert web.wrappers == tuple(WrapperUse("rate-limit", Limit(n)) for n in (10, 5, 10))


def test_an_unknown_wrapper_gets_the_nearest_name(files: Files) -> None:
    assert only_problem(files, "wrappers: [rate-limt]") == (
        'deploy.yml:4:14: x-kproxy.wrappers: there is no wrapper "rate-limt"; '
        'did you mean "rate-limit"?'
    )


def test_an_unknown_wrapper_that_resembles_nothing_gets_a_list(files: Files) -> None:
    assert only_problem(files, "wrappers: [zzz]").endswith('"zzz"; installed: rate-limit')


def test_a_wrappers_options_are_checked_where_they_stand(files: Files) -> None:
    assert only_problem(files, "wrappers: [rate-limit: {requests: 0}]") == (
        "deploy.yml:4:37: x-kproxy.wrappers.rate-limit.requests: "
        "should be an integer, at least 1, is 0"
    )


@pytest.mark.parametrize("entry", ["{rate-limit: {}, b: {}}", "3", "[rate-limit]"])
def test_an_entry_that_is_no_wrapper_is_a_problem(files: Files, entry: str) -> None:
    line = only_problem(files, f"wrappers: [{entry}]")
    assert "should be NAME or NAME: {options} of one wrapper" in line


def test_wrappers_are_a_list(files: Files) -> None:
    assert "should be a list of wrappers" in only_problem(files, "wrappers: rate-limit")


def test_a_plugin_that_fails_is_a_problem_that_names_it(files: Files) -> None:
    line = only_problem(files, "wrappers: [rate-limit]", Plugin(ZeroDivisionError("s3cret")))
    assert line == (
        'deploy.yml:4:14: x-kproxy.wrappers.rate-limit: the wrapper "rate-limit" failed to check '
        "it: ZeroDivisionError"
    )


def test_a_plugin_that_rejects_without_a_word_is_not_used(files: Files) -> None:
    line = only_problem(files, "wrappers: [rate-limit]", Plugin(Rejected()))
    assert line.endswith('the wrapper "rate-limit" rejects it without a reason')
