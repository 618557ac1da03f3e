"""Percentiles of few measurements are measurements, or lie between two."""

from __future__ import annotations

import pytest

from tenantry_ops.timings import Timings, percentile


@pytest.mark.parametrize("count", [1, 2, 3, 25, 99, 100, 1000])
def test_nothing_took_longer_than_the_longest(count):
    """One slow operation of few is the 99th percentile's bound, not its beginning."""
    timings = Timings()
    for number in range(count):
        timings.add("work", 0.010 if number else 1.000)
    (row,) = timings.rows()
    assert row["count"] == count
    assert 10.0 <= row["p50_ms"] <= row["p99_ms"] <= 1000.0


def test_percentiles_are_where_they_should_be():
    """Of 0 to 100 each is its own number."""
    taken = [float(it) for it in range(101)]
    assert [percentile(taken, it) for it in (1, 50, 99)] == [1.0, 50.0, 99.0]
