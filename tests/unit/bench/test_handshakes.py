"""What is understood of what ``openssl s_time`` says."""

import pytest

from bench.handshakes import parse, sample
from bench.wrk import LoadError

OUTPUT = """\
Collecting connection statistics for 2 seconds
**********

3000 connections in 1.20s; 2500.00 connections/user sec, bytes read 0
3000 connections in 3 real seconds, 0 bytes read per connection
"""


def test_connections_are_counted_by_the_clock_on_the_wall():
    totals = parse(OUTPUT)
    assert totals == {"connections": 3000, "seconds": 3}
    assert sample(totals, cpu_ns=600_000_000) == {"handshakes": 1000, "cpu_us": 200}


def test_no_connection_is_an_error():
    with pytest.raises(LoadError, match="no connection"):
        parse("0 connections in 0.00s; nan connections/user sec, bytes read 0")
