"""Rollover of a fleet: every bucket of every shard, whatever fails in one of them."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import duckdb
import psycopg
import pytest
import typer
import yaml
from fix_blank import make_blank
from typer.testing import CliRunner

from tenantry_ops.cli.console import console
from tenantry_ops.cli.partitions import app
from tenantry_ops.initialise import initialise
from tenantry_ops.partitions import Database, databases, plan_all, roll_over_all
from tenantry_ops.partitions.lead import BEHIND, FAILED, OK, exit_code, write_metrics
from tenantry_ops.structure import schema_diff
from tenantry_partitions.budget import Budget
from tenantry_partitions.policies import set_policy, unset_policy
from tenantry_partitions.policy import Policy
from tenantry_schema.errors import InvalidConfig, NotFound, UnknownBucket, UnknownShard
from tenantry_schema.timing import partition_name

BUDGET = Budget(total=1)

_ahead = itertools.count(9, 2)


def weekly(premake):
    return Policy.parse({"control": "at", "interval": "1 week", "premake": premake})


def tenantry(*arguments):
    """Call a command in this process; what the root prints of errors is tested elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        # Wide enough for every cell, whatever the terminal was when the console was made.
        patch.setattr(console, "_width", 400)
        return CliRunner().invoke(app, list(arguments))


@pytest.fixture(scope="module")
def initialised(fleet):
    """Two shards of two buckets."""
    with ExitStack() as stack:
        blank = make_blank(fleet, stack)
        initialise(blank.plan(buckets=4))
        yield blank


@dataclass(frozen=True)
class Four:
    """The fleet, and how many partitions of `logs` are wanted ahead: two more than before."""

    catalog: str
    conninfos: tuple[str, ...]
    premake: int


@pytest.fixture
def four(initialised):
    premake = next(_ahead)
    with psycopg.connect(initialised.catalog, autocommit=True) as conn:
        set_policy(conn, "logs", weekly(premake))
    yield Four(initialised.catalog, initialised.conninfos, premake)
    reports = roll_over_all(databases(initialised.catalog), Budget(), jobs=2)
    assert exit_code(reports, alert=premake) == OK


def logs(reports):
    return {it.schema: it for report in reports for it in report.tables if it.table == "logs"}


@pytest.mark.slow
def test_every_bucket_is_rolled_over(four):
    """By the catalog's policy; what is made is what the models would make."""
    premake = four.premake
    places = databases(four.catalog)
    due = plan_all(places, BUDGET, jobs=2)
    assert [it.name for it in due] == ["s1", "s2"]
    assert not any(it.clean for it in due)
    assert sum(len(plan.steps) for it in due for plan in it.tables.values()) == 8
    reports = roll_over_all(places, BUDGET, jobs=2)
    assert exit_code(reports, alert=2) == OK
    assert {it.ahead for it in logs(reports).values()} == {premake}
    assert {it.ahead for report in reports for it in report.tables} == {7, premake}
    assert all(it.clean for it in plan_all(places, BUDGET, jobs=2))
    assert schema_diff(four.catalog) == []


@pytest.mark.slow
def test_what_fails_stops_nothing_else(four, tmp_path):
    """A lock that is never free, a shard that is away: told by name, and the rest is done."""
    places = databases(four.catalog)
    away = Database("s3", "host=127.0.0.1 port=1 user=nobody dbname=none", {}, {})
    with psycopg.connect(four.conninfos[0]) as holder:
        pid = holder.info.backend_pid
        holder.execute("SET ROLE tenantry_owner")
        holder.execute("LOCK TABLE bucket_0002.logs IN SHARE UPDATE EXCLUSIVE MODE")
        reports = roll_over_all([*places, away], BUDGET, jobs=3)
    found = logs(reports)
    assert f"(locks on it are held by pid {pid})" in found["bucket_0002"].error
    assert [it.ahead for it in found.values()].count(four.premake) == 3
    assert found["bucket_0002"].ahead == four.premake - 2
    assert "connection" in reports[2].error
    assert exit_code(reports, alert=2) == FAILED
    write_metrics(tmp_path / "tenantry.prom", reports, 12.0)
    text = (tmp_path / "tenantry.prom").read_text()
    for line in (
        'tenantry_partitions_ahead{database="s1",schema="bucket_0002",table="logs"} '
        f"{four.premake - 2:.1f}",
        'tenantry_partitions_ahead{database="s1",schema="bucket_0000",table="logs"} '
        f"{four.premake:.1f}",
        'tenantry_partitions_failed{database="s1",schema="bucket_0002",table="logs"} 1.0',
        'tenantry_partitions_database_failed{database="s3"} 1.0',
        "tenantry_partitions_last_run_timestamp_seconds 12.0",
    ):
        assert line in text
    assert exit_code(roll_over_all(places, BUDGET, jobs=1), alert=2) == OK


def test_a_forbidden_bucket(four, fleet, initialised):
    """Whose table belongs to somebody else: said by name, and the others are done."""
    superuser = fleet.superuser_conninfo(fleet.shards[0].primary, initialised.names[1])
    with psycopg.connect(superuser, autocommit=True) as conn:
        conn.execute("ALTER TABLE bucket_0002.logs OWNER TO postgres")
        reports = roll_over_all(databases(four.catalog), BUDGET, jobs=2)
        conn.execute("ALTER TABLE bucket_0002.logs OWNER TO tenantry_owner")
    found = logs(reports)
    assert "create failed (permission denied" in found["bucket_0002"].error
    assert "SQLSTATE 42501" in found["bucket_0002"].error
    assert [it.ahead for it in found.values()].count(four.premake) == 3
    assert exit_code(reports, alert=2) == FAILED


@pytest.mark.slow
def test_logs_of_a_bucket_are_archived(four, tmp_path):
    """In spite of row security; DuckDB finds a tenant's by the statement of the docs; and back."""
    tenant, asked = documented_query(f"{tmp_path}/archive")
    ends = {**weekly(four.premake).as_row(), "retention": "90 days", "at_end": "archive"}
    at = ("--catalog", four.catalog, "--archive", f"file://{tmp_path}/archive")
    (place,) = databases(four.catalog, shards=["s1"])
    with (
        psycopg.connect(four.catalog, autocommit=True) as catalog,
        psycopg.connect(place.conninfo, autocommit=True) as conn,
    ):
        conn.execute("SET ROLE tenantry_owner")
        conn.execute(
            "CREATE TABLE bucket_0000.logs_p20260105 PARTITION OF bucket_0000.logs"
            " FOR VALUES FROM ('2026-01-05 00:00+00') TO ('2026-01-12 00:00+00')"
        )
        conn.execute("RESET ROLE")
        conn.execute(
            "INSERT INTO bucket_0000.logs (tenant_id, at, id, message, fields)"
            " SELECT it, moment, gen_random_uuid(), 'at ' || moment, '{}'"
            " FROM unnest(ARRAY[%s, gen_random_uuid()]) AS it, generate_series("
            "'2026-01-05 12:00+00'::timestamptz, '2026-01-06 12:00+00', '8 hours') AS moment",
            (tenant,),
        )
        set_policy(catalog, "logs", Policy.parse(ends))
        assert tenantry("rollover", *at).exit_code == 0
        gone = "SELECT to_regclass('bucket_0000.logs_p20260105') IS NULL"
        assert conn.execute(gone).fetchone() == (True,)
        found = duckdb.sql(asked).fetchall()
        assert [level for _, level, _ in found] == ["info", "info"]
        back = tenantry("archive", "restore", "bucket_0000/logs/logs_p20260105.json", *at, "--json")
        assert back.exit_code == 0, back.exception
        assert json.loads(back.stdout) == {
            "manifest": "bucket_0000/logs/logs_p20260105.json",
            "table": "bucket_0000.logs",
            "rows": 8,
        }
        count = "SELECT count(*) FROM bucket_0000.logs WHERE at < '2026-01-12 00:00+00'"
        assert conn.execute(count).fetchone() == (8,)
        set_policy(catalog, "logs", weekly(four.premake))
        assert schema_diff(four.catalog) == []
        conn.execute("SET ROLE tenantry_owner")
        conn.execute("DROP TABLE bucket_0000.logs_p20260105")


def documented_query(folder):
    """Return the tenant and the statement that docs/howto/archive.md names, over a local folder."""
    page = (Path(__file__).parents[3] / "docs/howto/archive.md").read_text()
    (query,) = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    (tenant,) = re.findall(r"tenant_id = '([0-9a-f-]{36})'", query)
    assert "s3://bucket/fleet-1/bucket_0017/" in query
    local = query.replace("s3://bucket/fleet-1", folder).replace("bucket_0017", "bucket_0000")
    return UUID(tenant), local


@pytest.mark.slow
def test_a_short_lead_is_an_alert(four):
    """Although nothing failed: what cannot be made is not ahead."""
    grid = weekly(1).grid
    with psycopg.connect(four.conninfos[0], autocommit=True) as conn:
        (now,) = conn.execute("SELECT now()").fetchone()
        due = partition_name("logs", grid.start(grid.index(now) + four.premake), grid.pattern)
        conn.execute("SET ROLE tenantry_owner")
        conn.execute(f"CREATE VIEW bucket_0000.{due} AS SELECT 1 AS squatter")
        reports = roll_over_all(databases(four.catalog), BUDGET, jobs=1)
        conn.execute(f"DROP VIEW bucket_0000.{due}")
    assert logs(reports)["bucket_0000"].ahead == four.premake - 1
    assert exit_code(reports, alert=four.premake - 1) == OK
    assert exit_code(reports, alert=four.premake) == BEHIND
    # A table that wants fewer than the alert says is content with them.
    assert exit_code(reports[1:], alert=100) == OK


def test_a_bucket_that_moves_away_meanwhile(four):
    """Its schema gets another name under the rollover's hands: no failure, and no leftovers."""
    places = databases(four.catalog, shards=["s1"])
    rename = "ALTER SCHEMA {} RENAME TO {}"
    with psycopg.connect(four.conninfos[0], autocommit=True) as conn:
        conn.execute("SET ROLE tenantry_owner")

        def move(_name, target):
            if target == ("bucket_0000", "logs"):
                conn.execute(rename.format("bucket_0002", "gone_0002"))

        (report,) = roll_over_all(places, BUDGET, jobs=1, progress=move)
        left = conn.execute(
            "SELECT count(*) FROM pg_class WHERE relname ~ '^logs_p[0-9]{8}$'"
            " AND relnamespace = 'gone_0002'::regnamespace"
        ).fetchone()
        conn.execute(rename.format("gone_0002", "bucket_0002"))
    found = {(it.schema, it.table): it for it in report.tables}
    assert found["bucket_0002", "logs"].moved
    assert found["bucket_0002", "logs"].error is None
    assert not report.failed
    assert found["bucket_0000", "logs"].ahead == four.premake
    assert left == (four.premake,)


def test_a_retired_partition_is_no_difference(four):
    """A bucket that keeps detached partitions is still as the models say."""
    with psycopg.connect(four.conninfos[0], autocommit=True) as conn:
        conn.execute("SET ROLE tenantry_owner")
        conn.execute(
            "CREATE TABLE bucket_0000.logs_p20200106 PARTITION OF bucket_0000.logs"
            " FOR VALUES FROM ('2020-01-06') TO ('2020-01-13')"
        )
        ends = {**weekly(four.premake).as_row(), "retention": "1 year", "at_end": "detach"}
        set_policy(conn, "logs", Policy.parse(ends))
        with psycopg.connect(four.catalog, autocommit=True) as catalog:
            unset_policy(catalog, "logs")
            reports = roll_over_all(databases(four.catalog, shards=["s1"]), Budget(), jobs=1)
            # The fixture rolls every shard as far as the catalog says.
            set_policy(catalog, "logs", weekly(four.premake))
        unset_policy(conn, "logs")
        verbs = [it.step.verb for it in logs(reports)["bucket_0000"].outcomes]
        assert verbs[-1] == "detach"
        assert schema_diff(four.catalog) == []
        conn.execute("DROP TABLE bucket_0000.logs_p20200106")


def test_parts_of_a_fleet(four):
    """By shard, bucket and table; names that are not there are refused."""
    (only,) = databases(four.catalog, buckets=[1], tables=["logs"])
    with psycopg.connect(only.conninfo) as conn:
        assert list(only.policies(conn)) == [("bucket_0001", "logs")]
    with pytest.raises(UnknownShard, match="'s9'"):
        databases(four.catalog, shards=["s9"])
    with pytest.raises(UnknownBucket):
        databases(four.catalog, buckets=[77])
    with pytest.raises(UnknownBucket):
        databases(four.catalog, buckets=[0], shards=["s2"])


def test_policies_override_each_other(four):
    """The models, then the shard's own, then the catalog's."""
    ours = weekly(5)
    with psycopg.connect(four.conninfos[1], autocommit=True) as conn:
        conn.execute("SET ROLE tenantry_owner")
        for name in ("logs", "transitions"):
            set_policy(conn, name, ours)
        shard = databases(four.catalog)[1]
        found = shard.policies(conn)
        for name in ("logs", "transitions"):
            unset_policy(conn, name)
    assert found["bucket_0001", "logs"] == weekly(four.premake)
    assert found["bucket_0001", "transitions"] == ours


def test_the_commands(four):
    """Plan says 2 when something is due, rollover does it, and then plan says 0."""
    at = ("--catalog", four.catalog)
    due = tenantry("plan", *at, "--json")
    assert due.exit_code == 2
    steps = json.loads(due.stdout)[0]["tables"][0]["steps"]
    assert {"step", "partition", "from", "to", "lock", "reversal", "reason"} == set(steps[0])
    assert f"ahead: {four.premake} of {four.premake}" in tenantry("plan", *at).stdout
    done = tenantry("rollover", *at, "--jobs", "2", "--json")
    assert done.exit_code == 0
    assert {it["error"] for it in json.loads(done.stdout)} == {None}
    after = tenantry("plan", *at)
    said = "nothing is due for 8 tables in 2 databases\n"
    assert (after.exit_code, after.stdout) == (0, said)
    assert "4 tables" in tenantry("rollover", *at, "--shard", "s1").stdout
    listed = json.loads(tenantry("policy", "list", *at, "--json").stdout)
    expected = {("logs", four.premake), ("transitions", 7)}
    assert {(it["name"], it["premake"]) for it in listed} == expected


def test_a_database_alone(alone, tmp_path):
    """Any partitioned table of any database, without buckets, a fleet or a catalog."""
    at = ("--dsn", alone.conninfo)
    given = ("--control", "at", "--interval", "1 day", "--premake", "3")
    assert tenantry("policy", "set", "public.events", *given, *at).exit_code == 0
    assert tenantry("plan", *at).exit_code == 2
    metrics = tmp_path / "alone.prom"
    done = tenantry("rollover", *at, "--metrics", str(metrics))
    assert (done.exit_code, done.stderr) == (0, "")
    assert "the shortest lead is 3 partitions" in done.stdout
    assert 'schema="public",table="events"} 3.0' in metrics.read_text()
    assert tenantry("plan", *at).exit_code == 0
    forgotten = tenantry("policy", "unset", "public.events", *at, "--json")
    assert (forgotten.exit_code, json.loads(forgotten.stdout)) == (0, {"unset": "public.events"})
    assert isinstance(tenantry("policy", "unset", "public.events", *at).exception, NotFound)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("policy", "set", "public.events", "--retention", "10"), "no unit"),
        (("policy", "set", "public.events", "--interval", "5 hours"), "no natural beginning"),
        (("policy", "set", "public.events", "--time-zone", "Mars/Phobos"), "in UTC always"),
        (("policy", "set", "a.b.c"), "no table's name"),
        (("plan", "--shard", "s1"), "--dsn names one database"),
        (("rollover", "--lock-timeout", "0"), "a lock timeout is"),
    ],
)
def test_calls_that_cannot_be(alone, arguments, said):
    """Refused before anything is changed."""
    more = ()
    if arguments[0] == "policy":
        more = ("--control", "at", *(() if "--interval" in arguments else ("--interval", "1 day")))
    ended = tenantry(*arguments, *more, "--dsn", alone.conninfo)
    assert isinstance(ended.exception, InvalidConfig)
    assert said in str(ended.exception)


@pytest.mark.slow
def test_watch_goes_on_until_it_is_ended(alone):
    """And ends with the signal, leaving no lock behind."""
    with psycopg.connect(alone.conninfo, autocommit=True) as conn:
        set_policy(conn, "public.events", Policy.parse({"control": "at", "interval": "1 day"}))
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "tenantry_ops", "partitions", "rollover"),
            *("--dsn", alone.conninfo, "--watch", "1", "--json"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    ) as watching:
        runs = [json.loads(watching.stdout.readline()) for _ in range(2)]
        watching.terminate()
        assert watching.wait(10) == 128 + 15
    assert [len(it[0]["tables"][0]["steps"]) for it in runs] == [9, 0]
    with alone.session():
        pass


@pytest.mark.slow
def test_watch_goes_on_while_the_catalog_is_away():
    """It says so, and tries again."""
    away = "host=127.0.0.1 port=1 user=nobody dbname=none"
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "tenantry_ops", "partitions", "rollover"),
            *("--catalog", away, "--watch", "1"),
        ],
        stderr=subprocess.PIPE,
        text=True,
    ) as watching:
        said = [next(it for it in watching.stderr if "CatalogUnavailable" in it) for _ in range(2)]
        watching.terminate()
        assert watching.wait(10) == 128 + 15
    assert len(said) == 2


def test_the_manifest_of_the_docs():
    """A CronJob of Kubernetes whose arguments and variables the command knows."""
    page = (Path(__file__).parents[3] / "docs/howto/partitions.md").read_text()
    (text,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    job = yaml.safe_load(text)
    assert (job["kind"], job["spec"]["concurrencyPolicy"]) == ("CronJob", "Forbid")
    pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    program, group, name, *arguments = container["args"]
    assert (program, group) == ("tenantry", "partitions")
    command = typer.main.get_command(app).commands[name]
    assert command.make_context(name, arguments).params["jobs"] == 8
    known = {it.envvar for it in command.params} | {"PGPASSFILE"}
    assert {it["name"] for it in container["env"]} <= known
    mounted = {it["name"] for it in container["volumeMounts"]}
    assert mounted == {it["name"] for it in pod["volumes"]}


def test_units_of_systemd(tmp_path):
    """Are files to look at, hold no password, and let the service write where it has to."""
    rendered = tenantry(
        *("units", "--schedule", "*:0/15", "--into", str(tmp_path)),
        *("--metrics", "/var/lib/node_exporter/tenantry.prom", "--archive", "file:///srv/archive"),
    )
    assert (rendered.exit_code, rendered.stdout) == (0, "")
    names = sorted(it.name for it in tmp_path.iterdir())
    assert names == ["tenantry-partitions.service", "tenantry-partitions.timer"]
    service = (tmp_path / names[0]).read_text()
    assert "partitions rollover" in service
    assert "--metrics /var/lib/node_exporter/tenantry.prom" in service
    assert "\nReadWritePaths=/var/lib/node_exporter\nReadWritePaths=/srv/archive\n" in service
    assert "OnCalendar=*:0/15" in (tmp_path / names[1]).read_text()
    assert Path(service.split("ExecStart=")[1].split()[0]).is_absolute()
    told = json.loads(tenantry("units", "--json").stdout)
    assert [(it["unit"], it["written"]) for it in told] == [(it, None) for it in names]
    assert "OnCalendar=hourly" in told[1]["text"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--dsn", "host=a password=hunter2"),
        ("--user", "root; rm"),
        ("--schedule", "hourly\nExecStart=x"),
        ("--metrics", "here.prom"),
        ("--archive", "file:///srv/a\nExecStart=x"),
    ],
)
def test_units_that_cannot_be(arguments):
    """Nothing of what was given is shown that may be a secret."""
    refused = tenantry("units", *arguments)
    assert isinstance(refused.exception, InvalidConfig)
    assert "hunter2" not in f"{refused.output}{refused.exception}"
