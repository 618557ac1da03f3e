"""Encodings, markers, guards and budgets: what is written is read back."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry_partitions.budget import Budget
from tenantry_partitions.encoding import (
    BEGINNING,
    END,
    Encoding,
    decode,
    decode_range,
    decode_value,
    default_encoding,
    encode,
)
from tenantry_partitions.guards import GUARD, PROMOTION, constraint_name, guarded_range
from tenantry_partitions.marker import Marker
from tenantry_partitions.policy import AtEnd
from tenantry_schema.errors import InvalidConfig

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
seconds = st.integers(0, 4_000_000_000).map(lambda it: EPOCH + timedelta(seconds=it))


@given(seconds, st.sampled_from(Encoding))
def test_bounds_are_read_back(moment, encoding):
    """In every way in which a column may hold a moment."""
    assert decode(encode(moment, encoding), encoding) == moment


@given(seconds, seconds)
def test_uuids_sort_by_time(one, other):
    """As Postgres compares them: byte by byte."""
    assert (encode(one, Encoding.UUID7) < encode(other, Encoding.UUID7)) == (one < other)


@pytest.mark.parametrize(
    ("bound", "encoding", "expected"),
    [
        (
            "FOR VALUES FROM ('2026-11-23 00:00:00+00') TO ('2026-11-24 00:00:00+00')",
            Encoding.TIME,
            (datetime(2026, 11, 23, tzinfo=UTC), datetime(2026, 11, 24, tzinfo=UTC)),
        ),
        (
            "FOR VALUES FROM ('2026-11-23') TO (MAXVALUE)",
            Encoding.TIME,
            (datetime(2026, 11, 23, tzinfo=UTC), END),
        ),
        (
            "FOR VALUES FROM (MINVALUE) TO ('1000')",
            Encoding.SECONDS,
            (BEGINNING, EPOCH + timedelta(seconds=1000)),
        ),
        (
            "FOR VALUES FROM ('-infinity') TO ('2026-11-24 00:00:00')",
            Encoding.TIME,
            (BEGINNING, datetime(2026, 11, 24, tzinfo=UTC)),
        ),
        ("DEFAULT", Encoding.TIME, None),
        ("FOR VALUES FROM ('2026-11-23', 1) TO ('2026-11-24', 2)", Encoding.TIME, None),
        ("FOR VALUES FROM ('44 BC') TO ('2026-11-24')", Encoding.TIME, None),
        ("FOR VALUES FROM ('9') TO ('99999999999999999999')", Encoding.SECONDS, None),
    ],
)
def test_what_postgres_prints_of_bounds(bound, encoding, expected):
    """What is no range of moments is None."""
    assert decode_range(bound, encoding) == expected


@pytest.mark.parametrize(
    ("text", "encoding", "expected"),
    [
        ("2026-11-23 01:00:00+00", Encoding.TIME, datetime(2026, 11, 23, 1, tzinfo=UTC)),
        ("infinity", Encoding.TIME, END),
        ("-infinity", Encoding.TIME, BEGINNING),
        ("0044-03-15 00:00:00+00 BC", Encoding.TIME, BEGINNING),
        ("12026-11-23 00:00:00+00", Encoding.TIME, END),
        ("ffffffff-ffff-4fff-8fff-ffffffffffff", Encoding.UUID7, END),
        ("9223372036854775807", Encoding.SECONDS, END),
        ("-9223372036854775808", Encoding.MILLISECONDS, BEGINNING),
    ],
)
def test_values_that_no_calendar_holds(text, encoding, expected):
    """Lie at its ends: a default partition collects them."""
    assert decode_value(text, encoding) == expected


def test_types_of_control_columns():
    """A bigint does not say what it counts."""
    assert default_encoding("uuid") is Encoding.UUID7
    assert default_encoding("date") is Encoding.TIME
    for kind in ("bigint", "text"):
        with pytest.raises(InvalidConfig, match="seconds or milliseconds"):
            default_encoding(kind)


@given(seconds, seconds, st.sampled_from(AtEnd), st.sampled_from([None, "s3://b/manifest.json"]))
def test_markers_are_read_back(start, end, then, archive):
    """As the comment of a table."""
    marker = Marker("logs", start, end, then, archive)
    assert Marker.read(marker.text()) == marker


@pytest.mark.parametrize(
    "comment", [None, "", "rows of last year", "[]", "{}", '{"tenantry": 1}', '{"tenantry": {}}']
)
def test_comments_of_someone_else(comment):
    """Are no markers."""
    assert Marker.read(comment) is None


@given(seconds, seconds)
def test_guards_say_for_which_range(start, end):
    """In at most 63 bytes, and not for another kind."""
    name = constraint_name(GUARD, (start, end))
    assert len(name) <= 63
    assert guarded_range(name, GUARD) == (start, end)
    assert guarded_range(name, PROMOTION) is None
    assert guarded_range("events_check", GUARD) is None


def test_pauses_grow_and_differ():
    """Two runs do not try in step, and none stays away for long."""
    budget = Budget()
    one, other = (list(islice(budget.pauses(random.Random(it)), 40)) for it in (1, 2))
    assert one != other
    assert max(one) <= 1.5
    assert one[0] < 0.1


@pytest.mark.parametrize("values", [(0, 1), (11, 1), (0.05, 0), (0.05, 10**6)])
def test_budgets_that_cannot_be(values):
    """Refused at once."""
    with pytest.raises(InvalidConfig, match="a lock timeout is"):
        Budget(*values)
