"""pg_partman 4.7.2 itself: it goes on with ours, we go on with its, the doctor sees the rest."""

from __future__ import annotations

import json
from datetime import timedelta

import psycopg
import pytest
from fix_partitions import daily
from fix_partman import adopted, call, diagnosed

from tenantry_ops.cli.partitions import app
from tenantry_ops.cli.partitions.partman import app as partman_app
from tenantry_partitions.policies import read_policies, set_policy
from tenantry_partitions.policy import AtEnd
from tenantry_partitions.session import maintenance
from tenantry_schema.errors import InvalidConfig, NotFound, OperationInProgress


@pytest.mark.parametrize(
    ("interval", "names"),
    [
        ("daily", "YYYY_MM_DD"),
        ("weekly", 'IYYY"w"IW'),
        ("1 week", "YYYY_MM_DD"),
        ("10 days", "YYYY_MM_DD"),
        ("monthly", "YYYY_MM"),
        ("quarterly", 'YYYY"q"Q'),
        ("yearly", "YYYY"),
        ("hourly", "YYYY_MM_DD_HH24MI"),
        ("6 hours", "YYYY_MM_DD_HH24MI"),
    ],
)
def test_we_go_on_with_every_kind_of_set(partman, interval, names):
    """With its names and its days, and then pg_partman with what we made."""
    partman.create_parent(interval, p_premake=2)
    partman.run("DROP TABLE events_default")
    before = partman.partitions()
    policy = adopted(partman)
    assert (policy.pattern, policy.premake) == (names, 2)
    more = type(policy).parse({**policy.as_row(), "premake": 5})
    report = partman.roll_over(more)
    assert (report.error, report.ahead) == (None, 5)
    assert [it.kind for it in report.findings if it.wrong] == []
    made = partman.partitions()
    assert len(made) >= len(before) + 2
    assert all(it.step.verb == "create" for it in report.outcomes)
    partman.configure("premake = 7, infinite_time_partitions = true")
    partman.run_maintenance()
    after = partman.partitions()
    assert len(after) >= len(made) + 1
    found = partman.plan(more)
    assert found.steps == ()
    assert [it.kind for it in found.findings if it.wrong] == []


@pytest.mark.parametrize("interval", ["1 day", "1 week", "1 month", "3 months", "1 year", "1 hour"])
def test_pg_partman_goes_on_with_ours(partman, interval):
    """One row of its configuration is all it needs."""
    policy = daily(interval=interval)
    with psycopg.connect(partman.conninfo, autocommit=True) as conn:
        set_policy(conn, "public.events", policy)
    assert partman.roll_over(policy).ahead == 3
    exported = call(partman, "export-partman", "public.events", "--json")
    assert exported.exit_code == 0, exported.exception
    (row,) = json.loads(exported.stdout)
    assert row["datetime_string"] == policy.pattern
    before = partman.partitions()
    partman.configure("premake = 6")
    partman.run_maintenance()
    after = partman.partitions()
    assert len(after) >= len(before) + 2
    more = type(policy).parse({**policy.as_row(), "premake": 5})
    assert partman.plan(more).clean
    assert set(diagnosed(partman)) <= {"no-index"}


def test_its_retention_ends_ours(partman):
    """Exported with its end: it drops what our policy would have dropped."""
    old, older = partman.old_days(7, 9)
    policy = daily(retention="5 days", at_end="drop")
    with psycopg.connect(partman.conninfo, autocommit=True) as conn:
        set_policy(conn, "public.events", policy)
    assert partman.roll_over(daily()).error is None
    assert call(partman, "export-partman", "public.events").exit_code == 0
    partman.run_maintenance()
    assert not {old, older} & set(partman.partitions())
    assert partman.plan(policy).steps == ()


def test_we_and_pg_partman_exclude_each_other(partman):
    """Its maintenance steps aside while ours runs, and ours waits for its transaction to end."""
    partman.create_parent("daily", p_premake=2)
    partman.configure("premake = 6, infinite_time_partitions = true")
    before = partman.partitions()
    with partman.session():
        partman.run_maintenance()
    assert partman.partitions() == before
    with psycopg.connect(partman.conninfo) as its:
        its.execute("SET TimeZone = 'UTC'")
        its.execute("SELECT partman.run_maintenance('public.events', p_analyze := false)")
        with pytest.raises(OperationInProgress, match=f"pid {its.info.backend_pid}"):
            with maintenance(partman.conninfo, partman.budget, patience=0.1):
                pass
    assert len(partman.partitions()) > len(before)
    with partman.session():
        pass


@pytest.mark.slow
@pytest.mark.parametrize("version", ["partman", "partman5"])
def test_adopting_by_the_command(request, version):
    """The policy is kept, pg_partman's own maintenance lets the set alone, and the rest goes on."""
    partman = request.getfixturevalue(version)
    partman.create_parent("1 day", p_premake=2)
    partman.configure("retention = '30 days', retention_keep_table = false")
    taken = call(partman, "adopt", "public.events", "--json")
    assert taken.exit_code == 0, taken.exception
    assert partman.config("automatic_maintenance") == "off"
    with psycopg.connect(partman.conninfo) as conn:
        policy = read_policies(conn)["public.events"]
    assert (policy.at_end, str(policy.retention)) == (AtEnd.DROP, "30 days")
    assert call(partman, "rollover").exit_code == 0
    assert partman.plan(policy).steps == ()
    assert isinstance(call(partman, "adopt", "public.other").exception, NotFound)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("retention = '10'", "no unit"),
        ("retention = '30 days', retention_schema = 'old'", "moves old partitions to schema"),
        ("epoch = 'nanoseconds'", "counts nanoseconds"),
        ("partition_type = 'time-custom'", "not native by RANGE"),
        ("partition_interval = '00:30:00'", "no span"),
    ],
)
def test_sets_that_cannot_be_adopted(partman, change, reason):
    """Each is named, and so is what to do."""
    partman.create_parent("daily")
    partman.configure(change)
    with pytest.raises(InvalidConfig, match=reason):
        adopted(partman)


def test_without_pg_partman(partman):
    """Said by name, by all three commands."""
    partman.run("DROP EXTENSION pg_partman")
    for arguments, group in (
        (("adopt", "public.events"), app),
        (("export-partman", "public.events"), app),
        (("doctor",), partman_app),
    ):
        assert isinstance(call(partman, *arguments, group=group).exception, NotFound)


def test_a_healthy_set(partman):
    """Nothing is wrong; and the command says so."""
    partman.create_parent("daily", p_premake=4)
    assert not [it for it in diagnosed(partman).values() if it.wrong]
    assert call(partman, "doctor", group=partman_app).exit_code == 0


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ("datetime_string = NULL", "no-datetime-string"),
        ("retention = '10'", "retention"),
        ("undo_in_progress = true", "undo"),
        ("premake = 9", "running-out"),
        ("datetime_string = 'YYYYMMDD'", "unparsable-name"),
    ],
)
def test_configurations_that_fail_in_silence(partman, change, kind):
    """Each is wrong, and exits with 1."""
    partman.create_parent("daily", p_premake=4)
    partman.configure(change)
    assert diagnosed(partman)[kind].wrong
    told = call(partman, "doctor", "--json", group=partman_app)
    assert told.exit_code == 1
    assert kind in {it["found"] for it in json.loads(told.stdout)}


def test_an_idle_set_runs_out(partman):
    """pg_partman says OK and makes nothing: there is no partition for today."""
    start = partman.today() - timedelta(days=20)
    partman.create_parent("daily", p_premake=1, p_start_partition=f"{start}")
    partman.run("DROP TABLE events_default")
    for it in partman.partitions():
        if it >= f"events_p{partman.today() - timedelta(days=5):%Y_%m_%d}":
            partman.run(f"DROP TABLE {it}")
    before = partman.partitions()
    partman.run_maintenance()
    assert partman.partitions() == before
    assert "without new rows" in diagnosed(partman)["running-out"].problem


def test_a_squatter_is_skipped_without_a_word(partman):
    """The name of a partition that is due is taken by a table that was detached and kept."""
    partman.create_parent("daily", p_premake=4)
    tomorrow = f"events_p{partman.today() + timedelta(days=1):%Y_%m_%d}"
    partman.run("DROP TABLE events_default", f"ALTER TABLE events DETACH PARTITION {tomorrow}")
    partman.run_maintenance()
    assert tomorrow not in partman.partitions()
    assert diagnosed(partman)["squatter"].wrong


def test_another_time_zone_misnames_partitions(partman):
    """A session in New York goes on with a set that was begun in UTC: gaps, and wrong names."""
    partman.create_parent("daily", p_premake=1)
    partman.configure("premake = 5, infinite_time_partitions = true")
    partman.run(
        "SET TimeZone = 'America/New_York'",
        "SELECT partman.run_maintenance('public.events', p_analyze := false)",
    )
    found = diagnosed(partman)
    assert "wrong-name" in found or "running-out" in found


def test_rows_in_the_default_and_a_lock_that_was_left(partman):
    """Both stop maintenance of every set."""
    partman.create_parent("daily", p_premake=2)
    partman.run("INSERT INTO events VALUES (1, now() + interval '9 days', 'early')")
    with psycopg.connect(partman.conninfo, application_name="pooled") as pooled:
        pooled.execute("SELECT pg_advisory_lock(hashtext('pg_partman run_maintenance'))")
        found = diagnosed(partman)
    assert "fails for every set" in found["default-rows"].problem
    assert "pooled" in found["lock"].problem
