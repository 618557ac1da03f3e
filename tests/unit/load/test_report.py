"""Rows for the table: only what succeeded is timed, what failed is counted and shown."""

from __future__ import annotations

import pytest

from tenantry_loadtest.plan import LoadOptions
from tenantry_loadtest.report import Tally
from tenantry_loadtest.workload import Kind
from tenantry_schema.errors import InvalidConfig


def test_a_tally_of_calls():
    """Counts, rates and latencies by kind, in the order of the kinds."""
    tally = Tally()
    for ms in (1.0, 2.0, 3.0):
        tally.on_request(name=Kind.LOG, response_time=ms, request_type="write")
    tally.on_request(name=Kind.LIST, response_time=9.0, exception=KeyError("a"))
    tally.on_request(name=Kind.LIST, response_time=9.0, exception=KeyError("b"))
    tally.on_user_error(exception=ValueError("ours"))
    rows = tally.rows(2.0)
    assert [(row["operation"], row["count"], row["failures"]) for row in rows] == [
        (Kind.LIST, 0, 2),
        (Kind.LOG, 3, 0),
    ]
    assert (rows[0]["p50_ms"], rows[1]["p50_ms"], rows[1]["per_second"]) == (None, 2.0, 1.5)
    assert tally.calls == 5
    assert tally.errors() == [
        {"operation": Kind.LIST, "error": "KeyError", "times": 2, "first": "'a'"},
        {"operation": "user", "error": "ValueError", "times": 1, "first": "ours"},
    ]


@pytest.mark.parametrize(
    "options",
    [
        {"seconds": 0.5},
        {"seconds": float("nan")},
        {"seconds": 86_401},
        {"users": 0},
        {"users": 1_001},
        {"tenants": 0},
        {"tenants": 10_001},
    ],
)
def test_impossible_numbers(options):
    """Refused by name, before a server is started."""
    with pytest.raises(InvalidConfig, match="a load run"):
        LoadOptions(**options)
