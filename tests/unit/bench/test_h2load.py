"""What is understood of what h2load says."""

import pytest

from bench.h2load import parse
from bench.wrk import LoadError

OUTPUT = """\
finished in 2.01s, 20000.00 req/s, 3.10MB/s
requests: 40000 total, 40032 started, 40000 done, 39990 succeeded, 10 failed, 0 errored, 0 timeout
status codes: 39990 2xx, 0 3xx, 0 4xx, 10 5xx
traffic: 6.20MB (6500000) total, 312.50KB (320000) headers (space savings 95.00%), 4.58MB data
                     min         max         mean         sd        +/- sd
time for request:      500us      9.00ms      1.60ms       300us    80.00%
"""


def test_totals_are_named_as_wrk_s():
    totals = parse(OUTPUT)
    assert totals["requests"] == 39_990
    assert totals["status"] == 10
    assert totals["duration_us"] == 2_010_000
    assert totals["bytes"] == 6_500_000
    assert totals["p50_us"] == 1600


def test_output_without_totals_is_an_error_that_quotes_it():
    with pytest.raises(LoadError, match="could not connect"):
        parse("could not connect to host")
