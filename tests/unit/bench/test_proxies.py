"""Configurations that are made for the proxies."""

import yaml

from bench.cases import Case
from bench.proxies import PROXIES, caddy, traefik
from bench.proxies.kproxy import KProxyBare, deploy_yml
from bench.proxies.nginx import configuration

TWO = Case("two", "two", services=2)


def test_proxy_names_are_unique():
    assert len({proxy.name for proxy in PROXIES}) == len(PROXIES)


def test_deploy_yml_has_a_proxied_role_for_every_service():
    assert yaml.safe_load(deploy_yml(TWO, 3000, None)) == {
        "service": "bench",
        "primary_role": "r0",
        "proxy": None,
        "servers": {
            "r0": {"hosts": ["127.0.0.1:3000"], "proxy": {"host": "s0.bench.test"}},
            "r1": {"hosts": ["127.0.0.1:3000"], "proxy": {"host": "s1.bench.test"}},
        },
    }


def test_deploy_yml_says_whether_to_buffer_only_if_asked_to():
    proxy = yaml.safe_load(deploy_yml(TWO, 3000, False))["proxy"]
    assert proxy["buffering"] == {"requests": False, "responses": False}


def test_the_bare_chain_is_left_out_where_the_case_decides_on_buffering():
    bare = KProxyBare()
    assert bare.cannot(TWO) is None
    assert bare.cannot(Case("post", "POST", buffering=True))


def test_nginx_is_configured_in_its_own_folder(tmp_path):
    text = configuration(tmp_path, "    server { }")
    assert f"pid {tmp_path}/nginx.pid;" in text
    assert "worker_processes 1;" in text
    assert "worker_processes 2;" in configuration(tmp_path, "", workers=2)
    assert "    server { }\n}" in text


def test_caddys_options_for_buffering_follow_its_version():
    assert caddy.buffering(True, "2.6.2") == {"buffer_requests": True, "buffer_responses": True}
    assert caddy.buffering(True, "v2.8.4") == {"request_buffers": -1, "response_buffers": -1}
    assert caddy.buffering(False, "v2.8.4") == {}


def test_traefik_buffers_only_if_asked_to():
    assert "middlewares" not in traefik.routes(TWO, 3000)["http"]
    buffered = traefik.routes(Case("post", "POST", buffering=True), 3000)["http"]
    assert buffered["routers"]["s0"]["middlewares"] == ["buffer"]
