"""The options of a deployment, and what they make of a service."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from kproxy.config.model import (
    Buffering,
    CertificateFiles,
    CertificateSecrets,
    Healthcheck,
    Logging,
    Service,
    Target,
)
from kproxy.control.flags import FLAGS, BadFlag
from kproxy.control.options import deployed, unconfigured
from kproxy.durations import parse_duration, show_duration

TARGET = {"target": ["a:1"]}
FILES = {"tls_certificate_path": "/cert.pem", "tls_private_key_path": "/key.pem"}


def test_a_service_that_only_the_command_line_knows_has_the_defaults_of_kamal_proxy() -> None:
    service = deployed(unconfigured("app"), TARGET)
    assert service == Service(
        "app",
        (Target("a", 1),),
        buffering=Buffering(requests=False, responses=False, max_request_body=0),
        logging=Logging(request_headers=()),
    )


def test_every_option_changes_what_it_names(tmp_path: Path) -> None:
    (tmp_path / "404.html").write_text("none")
    service = deployed(
        unconfigured("app"),
        {
            "target": ["a", "[::1]:2", "a"],
            "host": ["A.example", "b.example"],
            "path_prefix": ["api", "/x/"],
            "strip_path_prefix": False,
            "tls": True,
            "tls_on_demand_url": "/allowed",
            "tls_staging": True,
            "tls_certificate_path": "/cert.pem",
            "tls_private_key_path": "/key.pem",
            "tls_acme_cache_path": "/certs",
            "tls_redirect": False,
            "canonical_host": "a.example",
            "deploy_timeout": 5,
            "drain_timeout": 6.5,
            "force": True,
            "health_check_interval": 0.5,
            "health_check_timeout": 2,
            "health_check_path": "/health",
            "health_check_port": 9000,
            "health_check_host": "check.example",
            "read_target": ["r", "s:2"],
            "read_target_websockets": True,
            "writer_affinity_timeout": 1,
            "scope_cookie_paths": True,
            "exclude_metrics_path": ["/up", "/health"],
            "target_timeout": 7,
            "buffer_requests": True,
            "buffer_responses": True,
            "buffer_memory": 10,
            "max_request_body": 20,
            "max_response_body": 30,
            "error_pages": str(tmp_path),
            "log_request_header": ["A", "B"],
            "log_response_header": ["C"],
            "forward_headers": False,
            "client_ip_header": "X-Real-IP",
        },
    )
    assert service == Service(
        "app",
        (Target("a", 80), Target("::1", 2)),
        hosts=("a.example", "b.example"),
        path_prefixes=("/api", "/x"),
        strip_path_prefix=False,
        ssl=CertificateFiles(Path("/cert.pem"), Path("/key.pem")),
        tls_on_demand_url="/allowed",
        tls_staging=True,
        acme_folder=Path("/certs"),
        ssl_redirect=False,
        canonical_host="a.example",
        deploy_timeout=5,
        drain_timeout=6.5,
        healthcheck=Healthcheck("/health", 0.5, 2, 9000, "check.example"),
        read_targets=(Target("r", 80), Target("s", 2)),
        read_target_websockets=True,
        writer_affinity_timeout=1,
        scope_cookie_paths=True,
        exclude_metrics_paths=("/up", "/health"),
        response_timeout=7,
        buffering=Buffering(True, True, 20, 30, 10),
        error_pages=((404, "none"),),
        logging=Logging(("A", "B"), ("C",)),
        forward_headers=False,
        client_ip_header="X-Real-IP",
    )


def test_a_service_of_the_file_keeps_what_no_option_names() -> None:
    base = Service("app", (Target("a", 1),), hosts=("a.example",), response_timeout=5.0)
    service = deployed(base, {"target": ["b:2"], "buffer_requests": False})
    assert service.targets == (Target("b", 2),)
    assert service.hosts == ("a.example",)
    assert service.response_timeout == 5.0
    assert service.buffering == Buffering(requests=False)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({}, "a deployment needs a target: --target HOST:PORT"),
        ({"target": []}, "target should name a target"),
        ({"target": "a:1"}, "target should be a list of texts"),
        ({"target": ["a:0"]}, "target should have a port from 1 to 65535"),
        ({**TARGET, "host": ["a b"]}, "host should be a host name"),
        ({**TARGET, "host": [1]}, "host should be a list of texts"),
        ({**TARGET, "tls": "yes"}, "tls should be true or false"),
        ({**TARGET, "deploy_timeout": 0}, "deploy-timeout should be more than 0"),
        ({**TARGET, "deploy_timeout": True}, "deploy-timeout should be a number of seconds"),
        ({**TARGET, "drain_timeout": -1}, "drain-timeout should be at least 0"),
        ({**TARGET, "drain_timeout": float("nan")}, "drain-timeout should be at least 0"),
        ({**TARGET, "health_check_port": 70000}, "health-check-port should be a port"),
        ({**TARGET, "health_check_path": "up"}, "health-check-path should begin with a slash"),
        ({**TARGET, "error_pages": "/no/such"}, "error-pages should be a folder that exists"),
        ({**TARGET, "error_pages": "pages"}, "error-pages should be the whole path of a folder"),
        ({**TARGET, "buffer_memory": 1.5}, "buffer-memory should be an integer"),
        ({**TARGET, "what": 1}, "there is no option what"),
        ({**TARGET, "tls": True}, "--tls needs a host: --host NAME, or --tls-on-demand-url"),
        (
            {**TARGET, "tls_certificate_path": "/c"},
            "--tls-certificate-path goes with --tls-private-key-path, which is missing",
        ),
        (
            {**TARGET, "tls_private_key_path": "/c"},
            "--tls-private-key-path goes with --tls-certificate-path, which is missing",
        ),
        ({**TARGET, **FILES}, "--tls-certificate-path is of use with --tls only"),
        (
            {**TARGET, **FILES, "tls": True, "host": ["a"], "tls_certificate_path": "c"},
            "tls-certificate-path should be a whole path",
        ),
        ({**TARGET, "tls_on_demand_url": "ask"}, "tls-on-demand-url should be an http://"),
    ],
)
def test_what_is_wrong_is_refused_in_a_sentence(options: Any, complaint: str) -> None:
    with pytest.raises(BadFlag) as caught:
        deployed(unconfigured("app"), options)
    assert str(caught.value).startswith(complaint)


def test_tls_takes_automatic_certificates_unless_it_is_told_otherwise() -> None:
    plain = deployed(unconfigured("app"), {**TARGET, "host": ["a.example"]})
    secure = deployed(unconfigured("app"), {**TARGET, "host": ["a.example"], "tls": True})
    assert (plain.ssl, secure.ssl) == (False, True)
    on_demand = {**TARGET, "tls": True, "tls_on_demand_url": "http://ask"}
    assert deployed(unconfigured("app"), on_demand).ssl is True


def test_headers_are_not_forwarded_with_tls_unless_it_is_said_as_with_kamal_proxy() -> None:
    options = {**TARGET, "host": ["a.example"]}
    assert deployed(unconfigured("app"), {**options, "tls": False}).forward_headers
    assert not deployed(unconfigured("app"), {**options, "tls": True}).forward_headers
    forwarded = {**options, "tls": True, "forward_headers": True}
    assert deployed(unconfigured("app"), forwarded).forward_headers


def test_tls_leaves_a_service_of_the_file_the_certificate_that_it_has() -> None:
    own = CertificateSecrets("CERT", "KEY")
    base = Service("app", (Target("a", 1),), hosts=("a.example",), ssl=own)
    for options in ({}, {"tls": True}):
        service = deployed(base, {**TARGET, **options})
        assert service.ssl == own
        assert service.forward_headers == base.forward_headers
    files = deployed(base, {**TARGET, **FILES}).ssl
    assert files == CertificateFiles(Path("/cert.pem"), Path("/key.pem"))
    assert deployed(base, {**TARGET, "tls": False}).ssl is False


@pytest.mark.parametrize("name", ["", "a b", "a/b", "ä"])
def test_a_service_has_a_plain_name(name: str) -> None:
    with pytest.raises(BadFlag, match="the name of a service should be"):
        unconfigured(name)


def test_every_option_names_a_field() -> None:
    known = {field.name for field in fields(Service)}
    for flag in FLAGS:
        elsewhere = flag.name in ("force", "tls-certificate-path", "tls-private-key-path")
        assert flag.field.partition(".")[0] in known or elsewhere


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("1m30s", 90),
        ("500ms", 0.5),
        ("1.5h", 5400),
        (".5s", 0.5),
        ("2h3m4s5ms", 7384.005),
        ("0", 0),
        ("+1s", 1),
    ],
)
def test_durations_are_those_of_go(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "30", "s", "1 s", "-1s", "1d", "1s2", "+", "1e3s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="should be a duration"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["30s", "1m30s", "500ms", "1h", "0s", "2h0m5s"])
def test_durations_are_shown_as_go_reads_them(text: str) -> None:
    assert parse_duration(show_duration(parse_duration(text))) == parse_duration(text)
