"""Files: YAML, ERB, destinations, errors (behaviour.md section 1)."""

from __future__ import annotations

from pathlib import Path

import pytest

from kproxy.config import ConfigurationError, load
from kproxy.config.model import Target
from tests.unit.config.helpers import Files, with_proxy

MINIMAL = "service: app\nservers: [10.0.0.1]\n"


def test_a_problem_reads_like_a_compiler_error(files: Files) -> None:
    text = with_proxy("buffering:\n  memory: lots\n")
    assert files.problems(text) == [
        'deploy.yml:5:13: proxy.buffering.memory: should be an integer, is "lots"'
    ]


def test_a_file_is_named_as_it_was_given(
    files: Files, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    files.write("service: app\nserver: []\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError) as caught:
        load([Path("deploy.yml")], destination=None, server=None, environ={}, wrappers={})
    assert str(caught.value) == (
        'deploy.yml:2:1: server: is not a known option; did you mean "servers"?'
    )


def test_all_problems_of_all_files_are_reported_at_once_in_their_order(files: Files) -> None:
    first = "servers: 1\nproxy: {app_port: 0, host: a b}\nproxi: 1\n"
    second = "- a list\n"
    places = [line.split(": ")[0] for line in files.problems(first, second)]
    assert places == [
        "deploy.yml:1:1",
        "deploy.yml:1:10",
        "deploy.yml:2:19",
        "deploy.yml:2:28",
        "deploy.yml:3:1",
        "deploy1.yml:1:1",
    ]


def test_an_unknown_key_gets_the_nearest_known_name(files: Files) -> None:
    assert files.problems(MINIMAL + "drain_timout: 3\n") == [
        'deploy.yml:3:1: drain_timout: is not a known option; did you mean "drain_timeout"?'
    ]
    assert files.problems(with_proxy("sll: true")) == [
        'deploy.yml:4:3: proxy.sll: is not a known option; did you mean "ssl"?'
    ]


def test_an_unknown_key_that_resembles_nothing_gets_no_guess(files: Files) -> None:
    assert files.problems(MINIMAL + "zzz: 3\n") == ["deploy.yml:3:1: zzz: is not a known option"]


def test_what_only_kamal_needs_is_accepted_and_ignored(files: Files) -> None:
    text = """
        service: app
        image: org/app
        servers: [10.0.0.1]
        registry: {server: x}
        env: {clear: {A: 1}}
        builder: {arch: amd64}
        ssh: {user: me}
        boot: {limit: 1}
        aliases: {console: app exec}
        accessories: {db: {image: mysql, host: 10.0.0.9}}
        asset_path: /assets
        volumes: [a]
        labels: {a: b}
        hooks_path: x
        hooks_output: ":quiet"
        require_destination: false
        retain_containers: 3
        minimum_version: 2.0.0
        readiness_delay: 1
        run_directory: /x
        sshkit: {}
        logging: {driver: x}
        output: {}
        """
    assert files.service(text).name == "app-web"


def test_any_top_level_key_that_begins_with_x_is_ignored(files: Files) -> None:
    assert files.service(MINIMAL + "x-anything: {at: [all]}\n").name == "app-web"


def test_anchors_aliases_and_merge_keys_work(files: Files) -> None:
    text = """
        x-base: &base {memory: 5, requests: false}
        x-more: &more {memory: 6, responses: false}
        service: app
        servers: [10.0.0.1]
        proxy:
          buffering:
            <<: [*base, *more]
            requests: true
        """
    buffering = files.service(text).buffering
    assert (buffering.memory, buffering.requests, buffering.responses) == (5, True, False)


def test_a_value_that_came_by_an_alias_is_reported_where_it_is_written(files: Files) -> None:
    text = "x-b: &b {memory: lots}\n" + with_proxy("buffering: *b")
    assert files.problems(text) == [
        'deploy.yml:1:18: proxy.buffering.memory: should be an integer, is "lots"'
    ]


def test_integers_may_have_underscores(files: Files) -> None:
    service = files.proxy("buffering: {max_request_body: 40_000_000}")
    assert service.buffering.max_request_body == 40_000_000


def test_a_number_that_yaml_only_seems_to_accept_is_a_problem(files: Files) -> None:
    assert files.problems(with_proxy("app_port: 0x_")) == [
        "deploy.yml:4:13: proxy.app_port: should be an integer from 1 to 65535, is 0x_"
    ]


def test_a_duplicate_key_is_an_error_anywhere(files: Files) -> None:
    text = MINIMAL + "env:\n  a: 1\n  a: 2\n"
    assert files.problems(text) == ["deploy.yml:5:3: env.a: is given twice, first on line 4"]


def test_a_syntax_error_is_one_line_with_its_position(files: Files) -> None:
    (problem,) = files.problems("service: app\nservers: [a\nproxy: {}\n")
    assert problem.startswith("deploy.yml:3:")
    assert ": is not YAML: " in problem


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "deploy.yml:1:1: the file should hold a map, is empty"),
        ("- a\n", "deploy.yml:1:1: the file should hold a map, is a list"),
        ("a: 1\n---\nb: 2\n", "deploy.yml:2:1: is not YAML: but found another document"),
        ("a: *b\n", "deploy.yml:1:4: is not YAML: found undefined alias"),
        ("a: &a {b: *a}\n", "deploy.yml:1:4: a.b: contains itself"),
        ("a: \x01\n", "deploy.yml:1:1: is not YAML: "),
        ("? [a]\n: b\n", "deploy.yml:1:3: a key should be text"),
        ("<<: 3\n", "deploy.yml:1:5: << should be given a map"),
    ],
)
def test_what_is_no_map_is_reported(files: Files, text: str, expected: str) -> None:
    assert any(problem.startswith(expected) for problem in files.problems(text))


def test_a_file_that_can_not_be_read_is_reported(files: Files) -> None:
    assert files.problems() == ["deploy.yml:1:1: can't be read: No such file or directory"]


def test_a_file_that_is_not_utf8_is_reported(files: Files) -> None:
    (files.folder / "deploy.yml").write_bytes(b"service: a\n# \xff\n")
    assert files.problems() == ["deploy.yml:2:1: is not UTF-8 text"]


def test_a_file_that_is_nested_without_end_is_reported(files: Files) -> None:
    assert files.problems("a: " + "[" * 300_000) == ["deploy.yml:1:1: is nested too deeply"]
    assert files.problems("- " * 300 + "a") == ["deploy.yml:1:1: is nested too deeply"]


def test_a_byte_order_mark_is_no_part_of_the_file(files: Files) -> None:
    (files.folder / "deploy.yml").write_bytes(b"\xef\xbb\xbf" + MINIMAL.encode())
    assert files.load().services[0].name == "app-web"


@pytest.mark.parametrize(
    "tag",
    [
        '<%= ENV["X"] %>',
        "<%=ENV['X']%>",
        '<%= ENV.fetch("X") %>',
        '<%= ENV.fetch("X", "other") %>',
        "<%= ENV.fetch('X','other') %>",
    ],
)
def test_erb_tags_read_the_environment(files: Files, tag: str) -> None:
    service = files.proxy(f"host: {tag}.example.com", environ={"X": "www"})
    assert service.hosts == ("www.example.com",)


def test_an_erb_default_is_used_when_the_variable_is_not_set(files: Files) -> None:
    assert files.proxy('host: <%= ENV.fetch("X", "a.b") %>').hosts == ("a.b",)


def test_an_unset_variable_is_empty_unless_it_is_fetched(files: Files) -> None:
    assert files.proxy('host: <%= ENV["X"] %>').hosts == ()
    assert files.problems(with_proxy('host: <%= ENV.fetch("X") %>')) == [
        "deploy.yml:4:9: the environment variable X is not set, and no default is given"
    ]


@pytest.mark.parametrize(
    "tag", ["<% if x %>", "<%= `ls` %>", "<%# note %>", "<%= ENV[X] %>", "<%= ENV['X'] || 1 %>"]
)
def test_any_other_erb_tag_is_an_error_that_names_its_line(files: Files, tag: str) -> None:
    (problem,) = files.problems(f"{MINIMAL}# see {tag}\n")
    assert problem.startswith("deploy.yml:3:7: this ERB tag needs Ruby")


def test_an_erb_tag_without_end_is_an_error(files: Files) -> None:
    (problem,) = files.problems(f"{MINIMAL}# see <%= ENV\n")
    assert problem == "deploy.yml:3:7: this ERB tag has no end (%>)"


def test_positions_are_those_of_the_file_before_erb(files: Files) -> None:
    text = MINIMAL + 'x-a: "<%= ENV["X"] %>"\nproxy: {host: <%= ENV["Y"] %>, app_port: no}\n'
    (problem,) = files.problems(text, environ={"X": "one\n\n  two", "Y": "a.very.long.host.name"})
    column = text.splitlines()[3].index("no}") + 1
    assert problem.startswith(f"deploy.yml:4:{column}: proxy.app_port: ")


def test_a_destination_is_merged_deeply_over_the_file(files: Files) -> None:
    files.write(
        "proxy:\n  buffering: {memory: 7}\n  host: b.example.com\nservers: [10.0.0.2]\n",
        "deploy.staging.yml",
    )
    base = with_proxy("hosts: [a.example.com]\napp_port: 3000\nbuffering: {requests: false}\n")
    service = files.service(base, destination="staging")
    assert service.name == "app-web-staging"
    assert service.hosts == ("b.example.com",)
    assert service.targets == (Target("10.0.0.2", 3000),)
    assert (service.buffering.memory, service.buffering.requests) == (7, False)


def test_problems_name_the_file_that_they_are_in(files: Files) -> None:
    files.write("proxy:\n  app_port: no\n", "deploy.staging.yml")
    base = with_proxy("buffering: {memory: -1}\n")
    assert files.problems(base, destination="staging") == [
        "deploy.yml:4:23: proxy.buffering.memory: should be an integer, at least 0, is -1",
        "deploy.staging.yml:2:13: proxy.app_port: should be an integer, is no",
    ]


def test_a_destination_without_a_file_is_a_problem(files: Files) -> None:
    assert files.problems(MINIMAL, destination="nope") == [
        "deploy.nope.yml:1:1: can't be read: No such file or directory"
    ]


def test_relative_paths_start_at_the_folder_of_the_file(files: Files) -> None:
    (files.folder / "pages").mkdir()
    (files.folder / "pages/404.html").write_text("nothing")
    service = files.service(MINIMAL + "error_pages_path: pages\n")
    assert service.error_pages == ((404, "nothing"),)
    assert service.secrets_files == (
        files.folder / ".kamal/secrets-common",
        files.folder / ".kamal/secrets",
    )


def test_relative_paths_of_a_file_in_config_start_at_its_parent(tmp_path: Path) -> None:
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages/503.html").write_text("later")
    files = Files(tmp_path / "config")
    service = files.service(MINIMAL + "error_pages_path: pages\n")
    assert service.error_pages == ((503, "later"),)


def test_a_service_whose_error_pages_have_changed_is_another_service(files: Files) -> None:
    (files.folder / "pages").mkdir()
    (files.folder / "pages/404.html").write_text("before")
    before = files.service(MINIMAL + "error_pages_path: pages\n")
    (files.folder / "pages/404.html").write_text("after")
    assert files.service(MINIMAL + "error_pages_path: pages\n") != before


def test_an_error_page_that_can_not_be_read_is_named(files: Files) -> None:
    (files.folder / "pages").mkdir()
    (files.folder / "pages/404.html").write_bytes(b"\xff")
    (problem,) = files.problems(MINIMAL + "error_pages_path: pages\n")
    assert problem == (
        "deploy.yml:3:19: error_pages_path: holds 404.html, which can't be read: it is not UTF-8, "
        'is "pages"'
    )


def test_error_pages_have_to_be_a_folder_that_exists(files: Files) -> None:
    assert files.problems(MINIMAL + "error_pages_path: nope\n") == [
        'deploy.yml:3:19: error_pages_path: should be a folder that exists, is "nope"'
    ]


def test_a_destination_has_secrets_of_its_own(files: Files) -> None:
    files.write("{}", "deploy.staging.yml")
    service = files.service(MINIMAL + "secrets_path: s\n", destination="staging")
    assert [path.name for path in service.secrets_files] == ["s-common", "s.staging"]


def test_service_is_required(files: Files) -> None:
    assert files.problems("servers: [a]\n") == ["deploy.yml:1:1: service is missing"]


def test_timeouts_are_seconds(files: Files) -> None:
    service = files.service(MINIMAL + "deploy_timeout: 5\ndrain_timeout: 1.5\n")
    assert (service.deploy_timeout, service.drain_timeout) == (5, 1.5)
    assert files.problems(MINIMAL + "drain_timeout: -1\n") == [
        "deploy.yml:3:16: drain_timeout: should be a number of seconds, at least 0, is -1"
    ]


def test_timeouts_are_half_a_minute_by_default(files: Files) -> None:
    service = files.service(MINIMAL)
    assert (service.deploy_timeout, service.drain_timeout) == (30, 30)
