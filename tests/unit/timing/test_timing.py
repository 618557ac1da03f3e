"""Spans, grids and names: what Postgres and pg_partman mean by them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry_schema.errors import InvalidConfig
from tenantry_schema.timing import (
    DAILY,
    HOURLY,
    Grid,
    Span,
    check_pattern,
    format_moment,
    parse_moment,
    partition_name,
)

NATURAL = ["1 hour", "6 hours", "12 hours", "1 day", "1 week", "1 month", "3 months", "1 year"]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _after(start, years):
    """Moments to the second, so many years after the start of one."""
    first = int((datetime(start, 1, 1, tzinfo=UTC) - EPOCH).total_seconds())
    seconds = st.integers(first, first + years * 365 * 86_400)
    return seconds.map(lambda it: EPOCH + timedelta(seconds=it))


moments = _after(1900, 1000)
ANCHORS = _after(2020, 10).filter(lambda it: it.day <= 28)


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("1 day", "1 day"),
        ("daily", "1 day"),
        ("1 week", "7 days"),
        ("WEEKLY", "7 days"),
        ("24:00:00", "1 day"),
        ("01:00:00", "01:00:00"),
        ("6 hours", "06:00:00"),
        ("1 day 12 hours", "36:00:00"),
        ("1 month", "1 mon"),
        ("3 mons", "3 mons"),
        ("quarterly", "3 mons"),
        ("12 months", "1 year"),
        ("1 year 6 months", "1 year 6 mons"),
    ],
)
def test_spans_are_printed_as_postgres_prints_intervals(text, printed):
    """And what is printed is read again."""
    assert str(Span.parse(text)) == printed
    assert Span.parse(printed) == Span.parse(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("10", "no unit"),
        ("10.5", "no unit"),
        (10, "a text such as"),
        (None, "a text such as"),
        ("30 minutes", "is no span"),
        ("1 fortnight", "is no span"),
        ("00:30:00", "is no span"),
        ("-1 day", "is no span"),
        ("1 day; DROP TABLE x", "is no span"),
        ("1 month 1 day", "whole hours"),
        ("0 days", "whole hours"),
        ("", "whole hours"),
        ("999999 years", "thousand years"),
    ],
)
def test_spans_that_cannot_be(text, reason):
    """A number without a unit is never taken for seconds."""
    with pytest.raises(InvalidConfig, match=reason):
        Span.parse(text)


@given(moments, st.sampled_from(NATURAL))
def test_every_moment_lies_in_exactly_one_cell(moment, span):
    """Cells begin before or at it, end after it, and follow each other."""
    grid = Grid(Span.parse(span))
    index = grid.index(moment)
    assert grid.start(index) <= moment < grid.start(index + 1)
    assert grid.floor(grid.start(index)) == grid.start(index)


@given(moments, ANCHORS, st.sampled_from(["10 days", "1 week", "5 hours", "1 month", "5 months"]))
def test_an_anchored_grid_keeps_its_anchor(moment, anchor, span):
    """Sets that pg_partman began on a Wednesday go on from Wednesday to Wednesday."""
    grid = Grid(Span.parse(span), anchor)
    assert grid.floor(anchor) == anchor
    assert grid.start(grid.index(moment)) <= moment < grid.start(grid.index(moment) + 1)


def test_weeks_begin_on_monday_and_months_on_their_first():
    """In UTC, whatever zone the moment was written in."""
    at = datetime(2026, 11, 23, 1, tzinfo=timezone(timedelta(hours=3)))
    assert Grid(Span.parse("1 week")).floor(at) == datetime(2026, 11, 16, tzinfo=UTC)
    assert Grid(Span.parse("1 day")).floor(at) == datetime(2026, 11, 22, tzinfo=UTC)
    assert Grid(Span.parse("3 months")).floor(at) == datetime(2026, 10, 1, tzinfo=UTC)


@pytest.mark.parametrize("span", ["5 hours", "10 days", "5 months", "2 years", "36 hours"])
def test_lengths_without_a_natural_beginning(span):
    """Refused, unless an anchor says where one cell begins."""
    with pytest.raises(InvalidConfig, match="no natural beginning"):
        Grid(Span.parse(span))


def test_months_cannot_begin_on_a_day_that_some_lack():
    """The 31st would drift."""
    with pytest.raises(InvalidConfig, match="day 31"):
        Grid(Span.parse("1 month"), datetime(2026, 1, 31, tzinfo=UTC))


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        # Names that pg_partman 4.7.2 and 5.1.0 were seen to give.
        (DAILY, "t_p20261123"),
        (HOURLY, "t_p20261123_210000"),
        ("YYYY_MM_DD", "t_p2026_11_23"),
        ("YYYY_MM", "t_p2026_11"),
        ("YYYY", "t_p2026"),
        ('IYYY"w"IW', "t_p2026w48"),
        ('YYYY"q"Q', "t_p2026q4"),
        ("YYYY_MM_DD_HH24MI", "t_p2026_11_23_2100"),
    ],
)
def test_names_are_those_of_pg_partman(pattern, name):
    """Of either version: the pattern decides, not the version."""
    at = datetime(2026, 11, 23, 21, tzinfo=UTC)
    assert partition_name("t", at, pattern) == name


@given(moments, st.sampled_from(["1 week", "1 day", "1 month", "3 months", "1 year", "1 hour"]))
def test_names_are_read_back(moment, span):
    """The pattern of a grid tells its cells apart."""
    grid = Grid(Span.parse(span))
    start = grid.floor(moment)
    assert parse_moment(grid.pattern, format_moment(grid.pattern, start)) == start


@pytest.mark.parametrize(
    ("pattern", "text"),
    [("YYYYMMDD", "20261340"), ("YYYYMMDD", "x"), ("YYYY_MM", "2026_1"), ("YYYY", "٢٠٢٦")],
)
def test_names_of_something_else(pattern, text):
    """No moment is made up."""
    assert parse_moment(pattern, text) is None


def test_long_names_are_cut_as_pg_partman_cuts_them():
    """63 bytes with the whole suffix; names that are not ASCII are refused."""
    name = partition_name("x" * 80, datetime(2026, 1, 1, tzinfo=UTC), DAILY)
    assert (len(name), name[-10:]) == (63, "_p20260101")
    with pytest.raises(InvalidConfig, match="not ASCII"):
        partition_name("журнал", datetime(2026, 1, 1, tzinfo=UTC), DAILY)


@pytest.mark.parametrize("pattern", ["", "MM", "YYYYYYYY", "YYYY%", 'YYYY"ж"', "DD/MM/YYYY"])
def test_patterns_that_cannot_be(pattern):
    """Refused by name."""
    with pytest.raises(InvalidConfig, match="pattern"):
        check_pattern(pattern)
