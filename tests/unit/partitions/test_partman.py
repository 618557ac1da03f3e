"""Rows of pg_partman's configuration, of version 4.7 and of 5: read, written and examined."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry_partitions.encoding import Encoding
from tenantry_partitions.partman import PartmanSet, examine, exported, policy_of
from tenantry_partitions.partman.doctor import SetFacts
from tenantry_partitions.planner import plan
from tenantry_partitions.policy import AtEnd, Policy
from tenantry_partitions.state import Default, Partition, TableState
from tenantry_schema.errors import InvalidConfig
from tenantry_schema.timing import partition_name

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
GIVEN = PartmanSet(
    parent_table="public.t",
    control="at",
    partition_type="range",
    partition_interval="1 day",
    premake=4,
    epoch="none",
    retention=None,
    retention_schema=None,
    retention_keep_table=True,
    infinite_time_partitions=True,
    datetime_string="YYYYMMDD",
    automatic_maintenance="on",
    undo_in_progress=False,
    ignore_default_data=True,
)


def told(given, major, *, lead=4, names=None, **state):
    """Return the kinds of what is wrong with a set of days that ends so many days ahead."""
    policy = policy_of(given)
    days = [policy.grid.floor(NOW) + timedelta(days=it) for it in range(-4, lead + 1)]
    partitions = tuple(
        Partition(it, it + timedelta(days=1), partition_name("t", it, names or policy.pattern))
        for it in days
    )
    seen = TableState("public", "t", partitions, **state)
    found = examine(SetFacts(given, major, seen, plan(policy, seen, NOW)))
    return {it.kind for it in found if it.wrong}


@pytest.mark.parametrize(
    ("interval", "names", "first"),
    [
        ("1 day", "YYYYMMDD", "t_p20261125"),
        ("7 days", "YYYYMMDD", "t_p20261123"),
        ("1 mon", "YYYYMMDD", "t_p20261101"),
        ("3 mons", "YYYYMMDD", "t_p20261001"),
        ("1 year", "YYYYMMDD", "t_p20260101"),
        ("01:00:00", "YYYYMMDD_HH24MISS", "t_p20261125_120000"),
    ],
)
def test_sets_of_version_5(interval, names, first):
    """Its names are the ones that sets of ours have from their beginning."""
    policy = policy_of(replace(GIVEN, partition_interval=interval, datetime_string=names))
    assert partition_name("t", policy.grid.floor(NOW), policy.pattern) == first
    plain = Policy.parse({"control": "at", "interval": interval})
    assert policy.pattern == plain.pattern
    assert exported("public.t", plain, Encoding.TIME, 5)["datetime_string"] == names


def test_a_set_keeps_the_names_of_version_4_through_upgrades():
    """The pattern stands in its row, whatever version reads it; version 5 goes on with both."""
    old = replace(GIVEN, datetime_string="YYYY_MM_DD", ignore_default_data=False)
    assert policy_of(old).pattern == "YYYY_MM_DD"
    assert told(old, 5) == set()
    assert told(old, 5, names="YYYYMMDD") == {"wrong-name"}
    assert told(old, 4, names="YYYYMMDD") == {"wrong-name", "unparsable-name"}


def test_what_version_5_refuses():
    """Weeks and quarters by the names of version 4: its maintenance fails for every set."""
    weekly = replace(GIVEN, partition_interval="7 days", datetime_string='IYYY"w"IW')
    facts = SetFacts(weekly, 5, TableState("public", "t"), None)
    assert "old-pattern" in {it.kind for it in examine(facts)}
    assert "old-pattern" not in {it.kind for it in examine(replace(facts, major=4))}


@pytest.mark.parametrize("infinite", [True, False])
def test_a_lead_that_shrinks(infinite):
    """One less than its premake is how pg_partman rounds; two less is told."""
    given = replace(GIVEN, infinite_time_partitions=infinite)
    assert told(given, 5, lead=3) == set()
    assert told(given, 5, lead=2) == {"running-out"}


def test_rows_in_a_default():
    """Also of a far time: a maintenance that reaches it fails."""
    far = NOW + timedelta(days=300)
    assert told(GIVEN, 5, default=Default("t_default", None, (far, far))) == {"default-rows"}


@given(
    st.sampled_from(["1 hour", "1 day", "1 week", "1 month", "1 year"]),
    st.integers(1, 50),
    st.sampled_from([AtEnd.KEEP, AtEnd.DETACH, AtEnd.DROP]),
    st.sampled_from([Encoding.TIME, Encoding.SECONDS, Encoding.MILLISECONDS]),
    st.sampled_from([4, 5]),
)
def test_there_and_back_again(interval, premake, at_end, encoding, major):
    """A policy that was exported is adopted as the same one."""
    policy = Policy.parse(
        {
            "control": "at",
            "interval": interval,
            "premake": premake,
            "at_end": at_end,
            "retention": None if at_end is AtEnd.KEEP else "3 years",
            "encoding": None if encoding is Encoding.TIME else encoding,
        }
    )
    row = exported("public.t", policy, encoding, major)
    assert row["partition_type"] == ("native" if major == 4 else "range")
    kept = {name: row.get(name, getattr(GIVEN, name)) for name in GIVEN.__slots__}
    assert policy_of(PartmanSet(**kept)) == replace(policy, names=policy.pattern)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"partition_type": "list"}, "not native by RANGE"),
        ({"epoch": "func"}, "counts func"),
        ({"retention": "10"}, "no unit"),
        ({"retention_schema": "old"}, "moves old partitions"),
        ({"partition_interval": "00:15:00"}, "is no span"),
        ({"datetime_string": "YYYYMON"}, "not understood at 'MON'"),
    ],
)
def test_sets_that_cannot_be_taken_over(change, reason):
    """Each is named."""
    with pytest.raises(InvalidConfig, match=reason):
        policy_of(replace(GIVEN, **change))


@pytest.mark.parametrize(
    ("change", "encoding", "reason"),
    [
        ({}, Encoding.UUID7, "partitioned by a uuid"),
        ({"retention": "1 year", "at_end": "archive"}, Encoding.TIME, "archived before"),
    ],
)
def test_policies_that_pg_partman_has_not(change, encoding, reason):
    """Refused, with what to do instead."""
    policy = Policy.parse({"control": "at", "interval": "1 day", **change})
    with pytest.raises(InvalidConfig, match=reason):
        exported("public.t", policy, encoding, 5)
