"""Policies: what they are read from, and what is refused by name."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Column, DateTime, MetaData, Table, Uuid

from tenantry_partitions.policies import split_name, targets
from tenantry_partitions.policy import AtEnd, Policy, policies_of
from tenantry_schema.errors import InvalidConfig, InvalidSchema
from tenantry_schema.layout import Layout
from tenantry_schema.models import Base

GIVEN = {"control": "at", "interval": "1 day"}


def test_defaults():
    """Seven ahead, kept for ever, named as pg_partman 5 names."""
    policy = Policy.parse(GIVEN)
    assert (policy.premake, policy.retention, policy.at_end) == (7, None, AtEnd.KEEP)
    assert policy.pattern == "YYYYMMDD"


@given(
    st.sampled_from(["1 hour", "6 hours", "1 day", "1 week", "1 month", "3 months", "1 year"]),
    st.integers(1, 1000),
    st.sampled_from([None, "2 years", "24 months"]),
    st.sampled_from(AtEnd),
)
def test_what_is_kept_is_read_again(interval, premake, retention, at_end):
    """A row of the catalog says the same as the policy."""
    end = at_end if retention else AtEnd.KEEP
    policy = Policy.parse(
        {**GIVEN, "interval": interval, "premake": premake, "retention": retention, "at_end": end}
    )
    assert Policy.parse(policy.as_row()) == policy


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"retention": "10"}, "no unit"),
        ({"retention": "1 hour"}, "shorter than one partition"),
        ({"interval": "5 hours"}, "no natural beginning"),
        ({"interval": "10 days"}, "no natural beginning"),
        ({"premake": 0}, "premake is 1 to 1000"),
        ({"premake": 10**6}, "premake is 1 to 1000"),
        ({"premake": "7"}, "premake is 1 to 1000"),
        ({"premake": True}, "premake is 1 to 1000"),
        ({"at_end": "drop"}, "needs a retention"),
        ({"at_end": "burn", "retention": "9 days"}, "keep, detach, drop, archive"),
        ({"encoding": "roman"}, "encoding is one of"),
        ({"time_zone": "Europe/Berlin"}, "UTC always"),
        ({"time_zone": "Mars/Phobos"}, "UTC always"),
        ({"names": "YYYY_MM"}, "cannot tell partitions of 1 day apart"),
        ({"names": "DD"}, "needs a year"),
        ({"anchor": "2026-01-01"}, "a moment with a zone"),
        ({"anchor": datetime(2026, 1, 1)}, "a moment with a zone"),  # noqa: DTZ001  on purpose
        ({"control": ""}, "no column's name"),
        ({"control": "x" * 64}, "no column's name"),
        ({"colour": "blue"}, "knows no colour"),
        ({"control": None}, "needs control and interval"),
    ],
)
def test_policies_that_cannot_be(changed, reason):
    """Each names the value, and what is allowed."""
    with pytest.raises(InvalidConfig, match=reason):
        Policy.parse({**GIVEN, **changed})


def test_an_anchor_lets_lengths_be_that_have_no_natural_beginning():
    """As pg_partman makes them, from whatever day a set was begun on."""
    anchor = datetime(2026, 11, 25, tzinfo=UTC)
    policy = Policy.parse({**GIVEN, "interval": "10 days", "anchor": anchor})
    assert policy.grid.floor(anchor) == anchor


def test_the_shipped_tables_name_their_policies():
    """In code, at the table; by ISO weeks."""
    found = policies_of(Layout.from_metadata(Base.metadata))
    assert sorted(found) == ["logs", "transitions"]
    assert {str(it.interval) for it in found.values()} == {"7 days"}
    assert {it.control for it in found.values()} == {"at"}


def test_a_table_with_a_policy_that_cannot_be():
    """Refused when the MetaData is laid out, or when its policy is read."""

    def layout(**info):
        metadata = MetaData()
        columns = [Column("tenant_id", Uuid, primary_key=True)]
        columns.append(Column("at", DateTime(timezone=True), primary_key=True))
        Table("notes", metadata, *columns, info={"tenantry": {"time": "at", **info}})
        return Layout.from_metadata(metadata)

    with pytest.raises(InvalidSchema, match="'notes': its interval: partitions of 05"):
        layout(interval="5 hours")
    with pytest.raises(InvalidConfig, match="'notes': retention 1 day is shorter"):
        policies_of(layout(retention="1 day"))
    assert policies_of(layout(premake=2))["notes"].premake == 2


@pytest.mark.parametrize("name", ["", ".", "a.", ".b", "a.b.c", "x" * 64, "a\0"])
def test_names_that_are_no_tables(name):
    """Before anything is asked of a server."""
    with pytest.raises(InvalidConfig, match="no table's name"):
        split_name(name)


def test_a_bare_name_is_the_table_of_every_bucket():
    """A qualified one is one table."""
    policy = Policy.parse(GIVEN)
    found = targets({"logs": policy, "public.events": policy}, ["bucket_0001", "bucket_0002"])
    assert list(found) == [
        ("bucket_0001", "logs"),
        ("bucket_0002", "logs"),
        ("public", "events"),
    ]
