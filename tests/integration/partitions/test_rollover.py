"""Rollover on a real server: what is made, what goes, and what it costs others."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
import time_machine
from fix_partitions import daily

from tenantry_partitions.budget import Budget
from tenantry_partitions.policy import Policy
from tenantry_partitions.rollover import roll_over
from tenantry_partitions.session import PARTMAN_LOCK, maintenance
from tenantry_schema.errors import InvalidConfig, OperationInProgress, UnsuitableTable

RETIRING = {"retention": "5 days"}


def test_a_new_set(alone):
    """The current day, one before it, those ahead; then nothing is due."""
    report = alone.roll_over(daily())
    assert report.error is None
    assert report.ahead == 3
    assert [it.step.verb for it in report.outcomes] == ["create"] * 5
    assert len(alone.partitions()) == 5
    alone.run("INSERT INTO events VALUES (1, now(), 'here')")
    assert alone.plan(daily()).clean
    again = alone.roll_over(daily())
    assert (again.outcomes, again.ahead) == ((), 3)


def test_partitions_are_like_their_table(alone):
    """Indexes, checks, row security, policies and owner: what LIKE leaves out as well."""
    alone.run(
        "ALTER TABLE events ADD CONSTRAINT short CHECK (length(body) < 100)",
        "ALTER TABLE events ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE events FORCE ROW LEVEL SECURITY",
        "CREATE POLICY mine ON events FOR SELECT TO tenantry_app, tenantry_read USING (id > 0)",
        "CREATE POLICY new ON events AS RESTRICTIVE FOR INSERT WITH CHECK (body <> 'no')",
        "ALTER TABLE events OWNER TO tenantry_owner",
        "GRANT USAGE, CREATE ON SCHEMA public TO tenantry_owner",
    )
    assert alone.roll_over(daily()).error is None
    child = alone.partitions()[0]
    for fact in (
        "relrowsecurity, relforcerowsecurity, relowner FROM pg_class WHERE oid = {}",
        "polname, polpermissive, polcmd, polroles, pg_get_expr(polqual, polrelid),"
        " pg_get_expr(polwithcheck, polrelid) FROM pg_policy WHERE polrelid = {} ORDER BY 1",
        "count(*) FROM pg_index WHERE indrelid = {}",
        "conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE conrelid = {} AND contype = 'c'",
    ):
        parent, partition = (
            alone.run(f"SELECT {fact.format(f'{name!r}::regclass')}") for name in ("events", child)
        )
        assert parent == partition
        assert parent


@pytest.mark.parametrize(("at_end", "left"), [("detach", 2), ("drop", 0), ("keep", None)])
def test_the_end_of_a_partition(alone, at_end, left):
    """Kept, detached or dropped; nothing that the retention still covers."""
    old = alone.old_days(9, 7, 4)
    report = alone.roll_over(daily(at_end=at_end, **RETIRING))
    assert report.error is None
    attached = alone.partitions()
    assert old[2] in attached
    assert all((name in attached) == (left is None) for name in old[:2])
    there = alone.run(f"SELECT count(*) FROM pg_class WHERE relname IN ('{old[0]}', '{old[1]}')")
    assert there == [(2 if left is None else left,)]
    assert alone.plan(daily(at_end=at_end, **RETIRING)).steps == ()


def test_a_detached_partition_knows_what_for(alone):
    """And a run that was cut off after the detach goes on with it."""
    (old,) = alone.old_days(9)
    alone.roll_over(daily(at_end="detach", **RETIRING))
    assert alone.plan(daily(at_end="drop", **RETIRING)).steps == ()
    alone.run(f"SELECT obj_description('{old}'::regclass)")
    alone.run(
        f"COMMENT ON TABLE {old} IS "
        + repr(
            alone.run(f"SELECT obj_description('{old}'::regclass)")[0][0].replace(
                '"then": "detach"', '"then": "drop"'
            )
        )
    )
    assert [it.verb for it in alone.plan(daily(at_end="drop", **RETIRING)).steps] == ["drop"]
    alone.roll_over(daily(at_end="drop", **RETIRING))
    assert alone.run(f"SELECT to_regclass('{old}')") == [(None,)]


@pytest.mark.parametrize(
    ("column", "more"),
    [
        ("uuid", {}),
        ("bigint", {"encoding": "seconds"}),
        ("bigint", {"encoding": "milliseconds"}),
        ("timestamp", {}),
        ("date", {}),
    ],
)
def test_other_controls(alone, column, more):
    """Ids by time and plain timestamps: rows of now have a place, bounds are read back."""
    alone.run(f"CREATE TABLE other (id {column} NOT NULL) PARTITION BY RANGE (id)")
    policy = Policy.parse({"control": "id", "interval": "1 week", "premake": 2, **more})
    report = alone.roll_over(policy, ("public", "other"))
    assert (report.error, report.ahead) == (None, 2)
    now = alone.now()
    milliseconds = int(now.timestamp() * 1000)
    value = {
        "uuid": f"'{milliseconds:012x}70008000000000000001'",
        "bigint": str(milliseconds // (1000 if more.get("encoding") == "seconds" else 1)),
    }.get(column, f"'{now}'")
    alone.run(f"INSERT INTO other VALUES ({value})")
    assert alone.plan(policy, ("public", "other")).clean


@pytest.mark.slow
def test_a_long_reader_stops_no_writer(alone):
    """Partitions are made beside it; a detach waits for it, at nobody's expense."""
    (old,) = alone.old_days(9)
    alone.roll_over(daily())
    with psycopg.connect(alone.conninfo) as reader:
        reader.execute("SELECT count(*) FROM events")
        report = alone.roll_over(daily(premake=6, at_end="drop", **RETIRING))
        assert {it.step.verb for it in report.outcomes} == {"create"}
        assert report.ahead == 6
        assert "nothing is half done" in report.error
        assert f"locks on it are held by pid {reader.info.backend_pid}" in report.error
        assert old in alone.partitions()
        assert report.stall_ms < 500
    assert alone.roll_over(daily(premake=6, at_end="drop", **RETIRING)).error is None
    assert old not in alone.partitions()


def test_a_short_reader_is_waited_for(alone):
    """The detach gets its turn when the transaction ends, in one run."""
    (old,) = alone.old_days(9)
    alone.roll_over(daily())
    with psycopg.connect(alone.conninfo) as reader:
        reader.execute("SELECT count(*) FROM events")
        release = threading.Timer(0.5, reader.rollback)
        release.start()
        report = alone.roll_over(daily(at_end="drop", **RETIRING))
        release.join()
    assert report.error is None
    assert report.outcomes[0].attempts > 1
    assert old not in alone.partitions()


def test_an_interrupted_detach_is_finished(alone):
    """By whomever it was begun: its rows were hidden already."""
    first, second = alone.old_days(9, 8)
    alone.roll_over(daily())
    with (
        psycopg.connect(alone.conninfo) as reader,
        psycopg.connect(alone.conninfo, autocommit=True) as other,
    ):
        reader.execute("SELECT count(*) FROM events")
        other.execute("SET lock_timeout = '100ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute(f"ALTER TABLE events DETACH PARTITION {first} CONCURRENTLY")
    found = alone.plan(daily(at_end="drop", **RETIRING))
    assert [it.verb for it in found.steps] == ["finalize", "detach", "drop"]
    assert "pending-detach" in {it.kind for it in found.findings}
    assert alone.roll_over(daily(at_end="drop", **RETIRING)).error is None
    assert not {first, second} & set(alone.partitions())
    # Somebody else's detach is not ours to drop.
    assert alone.run(f"SELECT count(*) FROM {first}") == [(10,)]


def test_a_default_partition_gets_a_guard(alone):
    """Its rows are never scanned under lock, and the guard goes with the run."""
    alone.run(
        "CREATE TABLE events_default PARTITION OF events DEFAULT",
        "INSERT INTO events VALUES (1, now() + interval '1 year', 'too early')",
    )
    (old,) = alone.old_days(9)
    policy = daily(at_end="drop", **RETIRING)
    verbs = [it.verb for it in alone.plan(policy).steps]
    assert verbs == ["guard", *["create"] * 7, "unguard", "detach", "drop"]
    alone.run("UPDATE events SET at = now() - interval '30 days' WHERE body LIKE 'too%'")
    alone.old_days(40, 20)
    alone.run("INSERT INTO events VALUES (2, now() - interval '12 days', 'late')")
    verbs = [it.verb for it in alone.plan(daily()).steps]
    assert verbs == ["guard", *["create"] * 7, "unguard"]
    report = alone.roll_over(daily())
    assert report.error is None
    assert alone.run("SELECT count(*) FROM pg_constraint WHERE conname ~ 'tenantry'") == [(0,)]
    assert old in alone.partitions()


def test_two_runs_exclude_each_other_and_pg_partman(alone):
    """By the lock that pg_partman takes itself."""
    with alone.session():
        with pytest.raises(OperationInProgress, match="tenantry-partitions"):
            with maintenance(alone.conninfo, alone.budget, patience=0.1):
                pass
    with psycopg.connect(alone.conninfo) as partman:
        partman.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (PARTMAN_LOCK,))
        with pytest.raises(OperationInProgress, match=f"pid {partman.info.backend_pid}"):
            with maintenance(alone.conninfo, alone.budget, patience=0.1):
                pass
    with alone.session():
        pass


def test_no_maintenance_where_it_cannot_be(alone, fleet):
    """On a replica; with a lock timeout that could make an application a deadlock's victim."""
    replica = fleet.superuser_conninfo(fleet.shards[0].replicas[0])
    with pytest.raises(InvalidConfig, match="replica"), maintenance(replica, alone.budget):
        pass
    alone.run("ALTER ROLE CURRENT_USER SET deadlock_timeout = '40ms'")
    try:
        with pytest.raises(InvalidConfig, match="deadlock_timeout of 40 ms"), alone.session():
            pass
    finally:
        alone.run("ALTER ROLE CURRENT_USER RESET deadlock_timeout")


@pytest.mark.parametrize(
    ("ddl", "policy", "reason"),
    [
        ("CREATE TABLE t (at timestamptz NOT NULL)", daily(), "an ordinary table"),
        ("CREATE VIEW t AS SELECT now() AS at", daily(), "a view"),
        (
            "CREATE TABLE t (at timestamptz NOT NULL) PARTITION BY LIST (at)",
            daily(),
            "partitioned by LIST",
        ),
        (
            "CREATE TABLE t (at timestamptz NOT NULL) PARTITION BY HASH (at)",
            daily(),
            "partitioned by HASH",
        ),
        (
            "CREATE TABLE t (at timestamptz NOT NULL, n int NOT NULL) PARTITION BY RANGE (n)",
            daily(),
            "not by 'at' alone",
        ),
        (
            "CREATE TABLE t (at date NOT NULL) PARTITION BY RANGE ((at + 1))",
            daily(),
            "not by 'at' alone",
        ),
        (
            "CREATE TABLE t (since timestamptz NOT NULL) PARTITION BY RANGE (since)",
            daily(),
            "no column 'at': it is partitioned by since",
        ),
        ("CREATE TABLE t (at timestamptz) PARTITION BY RANGE (at)", daily(), "may be NULL"),
        ("CREATE TABLE t (at text NOT NULL) PARTITION BY RANGE (at)", daily(), "not text"),
        ("CREATE TABLE t (at bigint NOT NULL) PARTITION BY RANGE (at)", daily(), "seconds or"),
        (
            "CREATE TABLE t (at date NOT NULL) PARTITION BY RANGE (at)",
            daily(encoding="uuid7"),
            "needs a column of type uuid",
        ),
        (
            "CREATE TABLE t (at timestamptz NOT NULL, PRIMARY KEY (at)) PARTITION BY RANGE (at);"
            "CREATE TABLE other (at timestamptz, CONSTRAINT points FOREIGN KEY (at) REFERENCES t)",
            daily(),
            "foreign key points of public.other refers to it",
        ),
        ("SELECT 1", daily(), "no such table"),
    ],
)
def test_tables_that_do_not_suit(alone, ddl, policy, reason):
    """Each is refused by name, and says what to do; others go on."""
    alone.run(ddl)
    target = ("public", "t")
    found = alone.plan(policy, target)
    assert isinstance(found, UnsuitableTable)
    assert reason in str(found)
    report = alone.roll_over(policy, target)
    assert reason in report.error
    assert report.ahead is None


@pytest.mark.parametrize(("name", "reason"), [("журнал", "not ASCII"), ("x" * 60, "60 bytes")])
def test_names_that_do_not_suit(alone, name, reason):
    """Where the names of partitions would be cut."""
    alone.run(f'CREATE TABLE "{name}" (at timestamptz NOT NULL) PARTITION BY RANGE (at)')
    assert reason in str(alone.plan(daily(), ("public", name)))


def test_a_squatted_name_stops_nothing_else(alone):
    """What is there is not touched; the rest is made, and the report says it."""
    tomorrow = alone.today() + timedelta(days=1)
    alone.run(f"CREATE TABLE events_p{tomorrow:%Y%m%d} (x int)")
    report = alone.roll_over(daily())
    assert report.ahead == 0
    assert [it.kind for it in report.findings if it.wrong] == ["squatter"]
    assert len(alone.partitions()) == 4


def test_a_partition_of_another_table_has_the_name(alone):
    """As two long names that are cut in one place: told like any other that is taken."""
    tomorrow = alone.today() + timedelta(days=1)
    alone.run(
        "CREATE TABLE other (LIKE events) PARTITION BY RANGE (at)",
        f"CREATE TABLE events_p{tomorrow:%Y%m%d} PARTITION OF other DEFAULT",
    )
    report = alone.roll_over(daily())
    assert (report.error, report.ahead) == (None, 0)
    assert [it.kind for it in report.findings if it.wrong] == ["squatter"]


@pytest.mark.slow
def test_the_stall_that_is_reported_is_the_one_that_was_felt(alone):
    """Writers queue up behind an attempt at a lock: for as long as it says, and no longer."""
    alone.run("CREATE TABLE events_default PARTITION OF events DEFAULT")
    ended, felt = threading.Event(), []

    def write():
        with psycopg.connect(alone.conninfo, autocommit=True) as conn:
            while not ended.is_set():
                began = time.monotonic()
                conn.execute("INSERT INTO events VALUES (1, now() + interval '1 year', 'w')")
                felt.append((time.monotonic() - began) * 1000)

    with psycopg.connect(alone.conninfo) as reader:
        reader.execute("SELECT count(*) FROM events_default")
        writer, release = threading.Thread(target=write), threading.Timer(0.8, reader.rollback)
        writer.start()
        release.start()
        report = alone.roll_over(daily())
        ended.set()
        writer.join()
        release.join()
    assert (report.error, report.ahead) == (None, 3)
    waited = [it for it in report.outcomes if it.attempts > 1]
    assert waited
    assert all(it.stall_ms > 40 for it in waited)
    assert max(felt) < report.stall_ms + 150


@pytest.mark.slow
def test_a_locked_partition_is_isolated(alone):
    """One that somebody keeps for himself, as VACUUM FULL does: the next table is done."""
    alone.run("CREATE TABLE other (LIKE events) PARTITION BY RANGE (at)")
    (old,) = alone.old_days(9)
    targets = {("public", "events"): daily(), ("public", "other"): daily()}
    with psycopg.connect(alone.conninfo) as holder, alone.session() as conn:
        holder.execute(f"LOCK TABLE {old} IN ACCESS EXCLUSIVE MODE")
        events, other = roll_over(conn, targets, alone.budget)
        assert "it cannot be looked at" in events.error
        assert "SQLSTATE 55P03" in events.error
        assert (other.error, other.ahead) == (None, 3)
        holder.rollback()
        assert [it.error for it in roll_over(conn, targets, alone.budget)] == [None, None]


@pytest.mark.slow
def test_a_reader_that_never_ends_keeps_a_detach_pending(alone):
    """And nothing else: partitions are made, and what is half done is said and finished later."""
    (old,) = alone.old_days(9)
    policy = daily(at_end="drop", **RETIRING)
    with (
        psycopg.connect(alone.conninfo) as reader,
        psycopg.connect(alone.conninfo, autocommit=True) as other,
    ):
        reader.execute("SELECT count(*) FROM events")
        other.execute("SET lock_timeout = '100ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute(f"ALTER TABLE events DETACH PARTITION {old} CONCURRENTLY")
        report = alone.roll_over(policy)
        assert report.ahead == 3
        assert "the next run finishes it" in report.error
    after = alone.roll_over(policy)
    assert (after.error, [it.step.verb for it in after.outcomes]) == (None, ["finalize"])


@pytest.mark.slow
def test_work_is_not_taken_from_the_budget(alone):
    """A table whose archive took longer than the budget still waits for its next lock."""
    (old,) = alone.old_days(9)
    alone.roll_over(daily())

    class Slow:
        def archive(self, conn, _table, _step, _place):
            conn.execute("SELECT pg_sleep(1.2)")
            holder.execute(f"LOCK TABLE {old} IN ACCESS SHARE MODE")
            release.start()
            return "somewhere.json"

        def has(self, _path):
            return True

        def check(self, *_):
            pass

    policy = daily(at_end="archive", **RETIRING)
    with psycopg.connect(alone.conninfo) as holder, alone.session() as conn:
        release = threading.Timer(0.3, holder.rollback)
        (report,) = roll_over(
            conn, {("public", "events"): policy}, Budget(total=1), archiver=Slow()
        )
        release.join()
    assert report.error is None
    assert old not in alone.partitions()


def test_a_failing_step_is_isolated(alone):
    """An event trigger that refuses stands for whatever a server may refuse."""
    alone.run("CREATE TABLE other (LIKE events) PARTITION BY RANGE (at)")
    alone.run(
        "CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF EXISTS (SELECT FROM pg_event_trigger_ddl_commands() "
        "WHERE object_identity ~ 'events_p') THEN "
        "RAISE EXCEPTION 'no more' USING ERRCODE = '53100'; END IF; END $$",
        "CREATE EVENT TRIGGER refuse ON ddl_command_end EXECUTE FUNCTION refuse()",
    )
    targets = {("public", "events"): daily(), ("public", "other"): daily()}
    with alone.session() as conn:
        events, other = roll_over(conn, targets, alone.budget)
    assert "no more, SQLSTATE 53100" in events.error
    assert events.ahead == -1
    assert (other.error, other.ahead) == (None, 3)
    assert alone.partitions() == []


@pytest.mark.parametrize("days", [-1, 1])
def test_the_operators_clock_is_wrong(alone, days):
    """By a day: what is made and what goes is decided by the database's time."""
    alone.old_days(7, 6)
    policy = daily(at_end="drop", **RETIRING)
    with time_machine.travel(datetime.now(UTC) + timedelta(days=days)):
        report = alone.roll_over(policy)
        assert abs(datetime.now(UTC) - alone.now()) > timedelta(hours=23)
    assert (report.error, report.ahead) == (None, 3)
    names = [f"events_p{alone.today() + timedelta(days=it):%Y%m%d}" for it in range(-5, 4)]
    assert alone.partitions()[-4:] == names[-4:]
    assert {it.step.partition for it in report.outcomes if it.step.verb == "drop"} == {
        f"events_p{alone.today() - timedelta(days=it):%Y%m%d}" for it in (7, 6)
    }
