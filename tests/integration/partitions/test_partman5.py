"""pg_partman 5 itself: it goes on with ours, we go on with its."""

from __future__ import annotations

import json

import psycopg
import pytest
from fix_partitions import daily
from fix_partman import adopted, call, diagnosed

from tenantry_ops.cli.partitions.partman import app as partman_app
from tenantry_partitions.partman import find_extension
from tenantry_partitions.policies import set_policy


@pytest.mark.parametrize(
    ("interval", "names"),
    [
        ("1 day", "YYYYMMDD"),
        ("1 week", "YYYYMMDD"),
        ("1 month", "YYYYMMDD"),
        ("1 year", "YYYYMMDD"),
        ("1 hour", "YYYYMMDD_HH24MISS"),
    ],
)
def test_we_go_on_with_every_kind_of_set(partman5, interval, names):
    """With its names and its moments, and then pg_partman with what we made."""
    partman5.create_parent(interval, p_premake=2)
    partman5.run("DROP TABLE events_default")
    before = partman5.partitions()
    with psycopg.connect(partman5.conninfo) as conn:
        assert find_extension(conn).version.startswith("5.")
    policy = adopted(partman5)
    assert (policy.pattern, policy.premake) == (names, 2)
    more = type(policy).parse({**policy.as_row(), "premake": 5})
    report = partman5.roll_over(more)
    assert (report.error, report.ahead) == (None, 5)
    assert [it.kind for it in report.findings if it.wrong] == []
    made = partman5.partitions()
    assert len(made) >= len(before) + 2
    partman5.configure("premake = 7, infinite_time_partitions = true")
    partman5.run_maintenance()
    assert len(partman5.partitions()) >= len(made) + 1
    found = partman5.plan(more)
    assert found.steps == ()
    assert [it.kind for it in found.findings if it.wrong] == []


@pytest.mark.parametrize(
    ("interval", "kept"),
    [("1 day", "5 days"), ("1 week", "5 weeks"), ("1 month", "5 months"), ("1 hour", "5 days")],
)
def test_pg_partman_goes_on_with_ours(partman5, interval, kept):
    """One row of its configuration is all it needs; its own retention then ends what ours would."""
    old, older = partman5.old_days(7, 9) if interval == "1 day" else (None, None)
    policy = daily(interval=interval, retention=kept, at_end="drop")
    with psycopg.connect(partman5.conninfo, autocommit=True) as conn:
        set_policy(conn, "public.events", policy)
    assert partman5.roll_over(daily(interval=interval)).ahead == 3
    exported = call(partman5, "export-partman", "public.events", "--json")
    assert exported.exit_code == 0, exported.exception
    before = partman5.partitions()
    assert old is None or {old, older} <= set(before)
    partman5.configure("premake = 6")
    partman5.run_maintenance()
    after = partman5.partitions()
    assert len(set(after) - set(before)) >= 2
    assert not {old, older} & set(after)
    assert set(diagnosed(partman5)) <= {"no-index"}


def test_we_and_pg_partman_exclude_each_other(partman5):
    """Its maintenance steps aside while ours runs."""
    partman5.create_parent("1 day", p_premake=2)
    partman5.configure("premake = 6, infinite_time_partitions = true")
    before = partman5.partitions()
    with partman5.session():
        partman5.run_maintenance()
    assert partman5.partitions() == before
    partman5.run_maintenance()
    assert len(partman5.partitions()) > len(before)


def test_the_doctor_sees_what_fails_in_silence(partman5):
    """A set that is well, and one whose retention has no unit."""
    partman5.create_parent("1 day", p_premake=4)
    assert call(partman5, "doctor", group=partman_app).exit_code == 0
    partman5.configure("retention = '10'")
    told = call(partman5, "doctor", "--json", group=partman_app)
    assert told.exit_code == 1
    assert "retention" in {it["found"] for it in json.loads(told.stdout)}
