"""What wrk is told, and what is understood of what it says."""

import pytest

from bench.cases import CASES, Case
from bench.wrk import LoadError, parse, sample, script

OUTPUT = """\
Running 1s test @ http://127.0.0.1:8080/120b
  1 threads and 32 connections
Requests/sec:  20000.00

BENCH {"requests": 40000, "bytes": 8000000, "duration_us": 2000000, "p50_us": 1500, \
"p99_us": 4250, "connect": 1, "read": 2, "write": 0, "timeout": 3, "status": 4}
"""


def test_totals_are_found_in_the_output():
    totals = parse(OUTPUT)
    assert totals["requests"] == 40_000
    assert totals["p99_us"] == 4250


def test_output_without_totals_is_an_error_that_quotes_it():
    with pytest.raises(LoadError, match="unable to connect"):
        parse("unable to connect to 127.0.0.1:8080 Connection refused")


def test_totals_become_metrics():
    assert sample(parse(OUTPUT), cpu_ns=1_000_000_000) == {
        "rps": 20_000,
        "mb_s": 4,
        "p50_ms": 1.5,
        "p99_ms": 4.25,
        "cpu_us": 25,
        "errors": 10,
    }


def test_a_round_without_a_request_is_an_error():
    with pytest.raises(LoadError, match="not one request"):
        sample({"requests": 0, "duration_us": 1}, cpu_ns=0)


def test_a_plain_get_leaves_the_request_to_wrk():
    lua = script(Case("get", "GET"))
    assert 'wrk.headers["Host"] = "s0.bench.test"' in lua
    assert "request = function" not in lua
    assert "POST" not in lua
    assert "close" not in lua


def test_a_body_makes_it_a_post():
    lua = script(Case("post", "POST", body_bytes=5))
    assert 'wrk.method = "POST"' in lua
    assert 'string.rep("x", 5)' in lua


def test_a_new_connection_per_request_is_asked_for_in_a_header():
    assert 'wrk.headers["Connection"] = "close"' in script(Case("new", "new", close=True))


def test_several_services_are_asked_in_turn():
    lua = script(Case("two", "two", services=2))
    assert 'hosts = {"s0.bench.test", "s1.bench.test"}' in lua
    assert "request = function" in lua


def test_load_on_many_services_is_spread_over_a_few_of_them():
    hosts = Case("many", "many", services=10_000).hosts_under_load
    assert len(hosts) == 16
    assert hosts[:2] == ["s0.bench.test", "s625.bench.test"]


def test_case_names_are_unique():
    assert len({case.name for case in CASES}) == len(CASES)
