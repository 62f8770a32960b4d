"""Results as people and programs read them."""

from bench.cases import Case
from bench.metrics import CPU, RPS
from bench.report import case_json, case_markdown, introduction, table
from bench.runner import CaseResult

CASE = Case("get", "GET", metrics=(RPS, CPU))


def result():
    """Two proxies that ran and one that didn't."""
    return CaseResult(
        CASE,
        {
            "kproxy": [{"rps": 9000.0, "cpu_us": 60.0}, {"rps": 11000.0, "cpu_us": 80.0}],
            "nginx": [{"rps": 20000.0, "cpu_us": 35.0}],
        },
        {"caddy": "exited with 1"},
    )


def test_a_table_is_aligned_with_numbers_to_the_right():
    assert table(["proxy", "n"], [["a", "1"], ["b", "1,000"]]) == (
        "| proxy |     n |\n|-------|------:|\n| a     |     1 |\n| b     | 1,000 |"
    )


def test_a_table_may_have_no_rows():
    assert table(["proxy", "n"], []) == "| proxy | n |\n|-------|--:|"


def test_a_case_shows_medians_ratios_of_its_headline_and_who_is_missing():
    assert case_markdown(result(), ["nginx", "caddy"]) == (
        "### get: GET\n\n"
        "| proxy  | requests/s | CPU µs/request | x nginx |\n"
        "|--------|-----------:|---------------:|--------:|\n"
        "| kproxy |     10,000 |           70.0 |    2.00 |\n"
        "| nginx  |     20,000 |           35.0 |    1.00 |\n\n"
        "- caddy: exited with 1\n"
    )


def test_a_case_without_results_says_why():
    nothing = CaseResult(CASE, {}, {"nginx": "exited with 1"})
    assert case_markdown(nothing) == "### get: GET\n\n- nginx: exited with 1\n"


def test_json_has_every_round_and_the_ratios_of_every_metric():
    found = case_json(result(), ["nginx"])
    assert found["proxies"]["kproxy"] == {
        "median": {"rps": 10000.0, "cpu_us": 70.0},
        "ratios": {"nginx": {"rps": 0.5, "cpu_us": 2.0}},
        "rounds": [{"rps": 9000.0, "cpu_us": 60.0}, {"rps": 11000.0, "cpu_us": 80.0}],
    }
    assert found["skipped"] == {"caddy": "exited with 1"}


def test_a_proxy_that_fails_late_loses_its_rounds():
    late = result()
    late.drop("kproxy", "wrk reported nothing")
    assert list(late.medians()) == ["nginx"]
    assert late.skipped["kproxy"] == "wrk reported nothing"


def test_the_introduction_names_machine_versions_and_what_is_missing():
    text = introduction(
        {
            "machine": {"time": "today", "cpu": "a CPU", "cores": 2, "system": "Linux 6"},
            "rounds": 3,
            "seconds": 2,
            "versions": {"nginx": "1.22.1"},
            "skipped": {"envoy": "envoy isn't on PATH"},
        }
    )
    assert text == (
        "today, a CPU, 2 cores, Linux 6\nMedians of 3 rounds of 2 s\n\n"
        "- nginx 1.22.1\n- envoy: skipped, envoy isn't on PATH"
    )
