"""What workers gain, and whether it is enough."""

import pytest

from bench.workers import Target, gains


def by_name(targets):
    return {target.what: target for target in targets}


@pytest.fixture
def found():
    """The rounds of a case."""
    return {
        "kproxy-0": [{"rps": 110.0, "cpu_us": 20.0}],
        "kproxy-1": [{"rps": 100.0, "cpu_us": 25.0}],
        "kproxy-2": [{"rps": 160.0, "cpu_us": 30.0}],
        "nginx-1": [{"rps": 200.0, "cpu_us": 10.0}],
        "nginx-2": [{"rps": 400.0, "cpu_us": 10.0}],
    }


def test_the_gain_from_a_second_worker_is_held_against_that_of_nginx(found):
    gain = by_name(gains(found))["the gain of kproxy : that of nginx"]
    assert gain.value == pytest.approx(0.8)
    assert gain.met is False


def test_cpu_time_may_grow_by_a_tenth(found):
    name = "CPU/request, kproxy 2 : 1"
    assert by_name(gains(found))[name].value == pytest.approx(1.2)
    assert not by_name(gains(found))[name].met
    found["kproxy-2"][0]["cpu_us"] = 27.5
    assert by_name(gains(found))[name].met


def test_a_round_that_was_disturbed_does_not_count_for_the_gain(found):
    found["kproxy-2"] += [{"rps": 50.0, "cpu_us": 30.0}] * 2
    gain = by_name(gains(found))["the gain of kproxy : that of nginx"]
    assert gain.value == pytest.approx(0.8)


def test_without_nginx_nothing_is_claimed(found):
    del found["nginx-2"]
    assert by_name(gains(found))["the gain of kproxy : that of nginx"].met is False


def test_a_figure_without_a_limit_is_only_told():
    assert Target("p99", 3.0).row() == ["p99", "3.00", "", ""]


def test_a_limit_is_told_with_what_became_of_it():
    assert Target("failed", 1, most=0).row() == ["failed", "1.00", "<= 0", "MISSED"]
    assert Target("share", 0.45, least=0.4).row() == ["share", "0.45", ">= 0.4", "met"]
