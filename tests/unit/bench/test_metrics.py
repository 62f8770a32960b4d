"""Rounds become medians, medians become ratios."""

from bench.metrics import CPU, RPS, medians, ratios, ratios_to


def test_each_metric_has_its_own_median():
    rounds = [{"a": 1.0, "b": 9.0}, {"a": 3.0, "b": 7.0}, {"a": 2.0, "b": 8.0}]
    assert medians(rounds) == {"a": 2.0, "b": 8.0}


def test_the_median_of_an_even_number_of_rounds_lies_between_the_middle_two():
    assert medians([{"a": 1.0}, {"a": 2.0}]) == {"a": 1.5}


def test_no_rounds_have_no_medians():
    assert medians([]) == {}


def test_a_ratio_to_nothing_is_left_out():
    assert ratios({"a": 4.0, "b": 1.0, "c": 1.0}, {"a": 2.0, "b": 0.0}) == {"a": 2.0}


def test_ratios_are_given_to_the_references_that_have_results():
    results = {"kproxy": {"a": 3.0}, "nginx": {"a": 1.0}, "failed": {}}
    assert ratios_to(["nginx", "failed", "missing"], results) == {
        "kproxy": {"nginx": {"a": 3.0}},
        "nginx": {"nginx": {"a": 1.0}},
        "failed": {"nginx": {}},
    }


def test_values_are_shown_with_their_metrics_decimals():
    assert RPS.show(12345.6) == "12,346"
    assert CPU.show(12.34) == "12.3"
