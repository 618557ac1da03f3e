"""Default partitions with rows: promoted or guarded, and never scanned under a lock."""

from __future__ import annotations

from datetime import timedelta

import psycopg
import pytest
from fix_partitions import daily

from tenantry_partitions.guards import PROMOTION, constraint_name
from tenantry_partitions.partman import adopted_policy, find_extension, read_sets
from tenantry_partitions.policy import Policy
from tenantry_partitions.rollover import roll_over
from tenantry_partitions.session import prepare

ROWS = "SELECT count(*), sum(id), min(at), max(at) FROM events"


@pytest.fixture
def full(alone):
    """A set whose partitions ended ten days ago, and whose default has taken every row since."""
    alone.old_days(12, 11)
    alone.run(
        "CREATE TABLE events_default PARTITION OF events DEFAULT",
        "INSERT INTO events SELECT it, now() - it * interval '1 hour', 'x'"
        " FROM generate_series(0, 199) AS it",
    )
    return alone


def told(alone, policy):
    """Roll over, and return what the server said of the scans that it spared."""
    said = []
    with alone.session() as conn:
        conn.execute("SET client_min_messages = debug1")
        conn.add_notice_handler(lambda notice: said.append(notice.message_primary))
        (report,) = roll_over(conn, {("public", "events"): policy}, alone.budget)
    assert report.error is None
    return report, [it for it in said if "implied by existing constraints" in it]


def test_the_default_becomes_the_partition_of_its_rows(full):
    """Not a row is copied or lost; a new, empty default takes its place."""
    before = full.run(ROWS)
    file = full.run("SELECT pg_relation_filenode('events_default')")
    report, spared = told(full, daily())
    verbs = [it.step.verb for it in report.outcomes]
    assert verbs == ["guard", *["create"] * 3, "unguard", "promote"]
    assert report.ahead == 3
    assert full.run(ROWS) == before
    assert full.run("SELECT count(*) FROM events_default") == [(0,)]
    name = report.outcomes[-1].step.partition
    assert full.run(f"SELECT pg_relation_filenode('{name}')") == file
    assert any(f'"{name}"' in it for it in spared)
    assert full.run("SELECT count(*) FROM pg_constraint WHERE conname ~ 'tenantry'") == [(0,)]
    assert full.plan(daily()).steps == ()
    full.run("INSERT INTO events VALUES (1000, now(), 'goes on')")


def test_a_guard_spares_the_scan(full):
    """Of rows that no partition can be made of."""
    day = full.today() - timedelta(days=4)
    full.run("DELETE FROM events WHERE at > now() - interval '6 days'")
    full.old_days(4)
    full.run(f"INSERT INTO events VALUES (5, '{day - timedelta(hours=30)}', 'before')")
    full.run(f"INSERT INTO events VALUES (6, '{day + timedelta(hours=30)}', 'behind')")
    before = full.run(ROWS)
    report, spared = told(full, daily())
    verbs = [it.step.verb for it in report.outcomes]
    assert verbs == ["guard", *["create"] * (len(verbs) - 2), "unguard"]
    assert sum('default partition "events_default"' in it for it in spared) == len(verbs) - 2
    assert full.run(ROWS) == before
    assert report.ahead == 3


@pytest.fixture
def watched(full):
    """A session that says of each statement whether it was in a transaction, and what it read."""
    seen = []
    ((oid,),) = full.run("SELECT 'events_default'::regclass::oid")
    with full.session() as conn:
        original = conn.execute

        def scanned():
            query = f"SELECT pg_stat_get_xact_tuples_returned({oid})"
            return original(query).fetchone()[0]

        def execute(query, *arguments, **options):
            text = query if isinstance(query, str) else query.as_string(None)
            before = scanned()
            found = original(query, *arguments, **options)
            locked = conn.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
            seen.append((text, locked, scanned() - before))
            return found

        conn.execute = execute
        yield conn, seen


@pytest.mark.parametrize("promoted", [True, False])
def test_no_row_is_read_under_a_lock(full, watched, promoted):
    """Counted by the server: only the proof reads the default, outside of every transaction."""
    if not promoted:
        full.run("INSERT INTO events VALUES (7, now() - interval '20 days', 'before all')")
    conn, seen = watched
    (report,) = roll_over(conn, {("public", "events"): daily()}, full.budget)
    assert report.error is None
    assert ("promote" in {it.step.verb for it in report.outcomes}) == promoted
    assert [count for _, locked, count in seen if locked and count] == []
    proofs = [count for text, _, count in seen if "VALIDATE" in text]
    assert proofs == ([200, 200] if promoted else [201])
    assert any("ATTACH" in text and locked for text, locked, _ in seen)


def test_nothing_is_attached_and_detached_in_one_transaction(full, watched):
    """But by a promotion, which locks the table first, as every statement of others does."""
    full.old_days(14, 13)
    conn, seen = watched
    policy = daily(retention="5 days", at_end="drop")
    (report,) = roll_over(conn, {("public", "events"): policy}, full.budget)
    assert {it.step.verb for it in report.outcomes} >= {"promote", "create", "detach", "drop"}
    both = [text for text, _, _ in seen if "ATTACH" in text and "DETACH" in text]
    assert len(both) == 1
    assert both[0].startswith('ALTER TABLE "public"."events" DETACH PARTITION')
    assert " RENAME TO " in both[0]


def test_a_row_of_no_time_stops_nothing(full):
    """A wrong moment in the default, of infinity or next year: what is due before it is made."""
    full.run("DELETE FROM events WHERE at > now() - interval '10 days'")
    full.run(
        "INSERT INTO events VALUES (1, 'infinity', 'never'), (2, now() + interval '1 year', 'far')"
    )
    report, spared = told(full, daily())
    assert report.ahead == 3
    assert report.outcomes[0].step.verb == "guard"
    assert sum('default partition "events_default"' in it for it in spared) >= 4
    assert [it.kind for it in report.findings if it.wrong] == ["default-rows"]
    assert full.plan(daily()).steps == ()


def test_a_default_of_uuids(alone):
    """Promoted as well: their first and last are found also where min() of a uuid is unknown."""
    alone.run(
        "CREATE TABLE ids (id uuid NOT NULL) PARTITION BY RANGE (id)",
        "CREATE TABLE ids_default PARTITION OF ids DEFAULT",
        "INSERT INTO ids SELECT (lpad(to_hex((extract(epoch FROM now()) * 1000)::bigint - it), 12,"
        " '0') || '70008000000000000001')::uuid FROM generate_series(0, 9) AS it",
    )
    policy = Policy.parse({"control": "id", "interval": "1 week", "premake": 2})
    report = alone.roll_over(policy, ("public", "ids"))
    assert (report.error, report.ahead) == (None, 2)
    assert report.outcomes[-1].step.verb == "promote"
    alone.run("INSERT INTO ids VALUES ('ffffffff-ffff-4fff-8fff-ffffffffffff')")
    again = alone.roll_over(policy.parse({**policy.as_row(), "premake": 4}), ("public", "ids"))
    assert (again.error, again.ahead) == (None, 4)
    assert alone.run("SELECT count(*) FROM ids") == [(11,)]


def test_a_promotion_that_was_interrupted_yesterday(full):
    """Its CHECK keeps rows of today out of the default: the next run frees it first."""
    day = full.today()
    full.run("DELETE FROM events WHERE at >= date_trunc('day', now(), 'UTC')")
    name = constraint_name(PROMOTION, (day - timedelta(days=20), day))
    full.run(
        f"ALTER TABLE events_default ADD CONSTRAINT {name}"
        f" CHECK (at >= '{day - timedelta(days=20)}' AND at < '{day}') NOT VALID"
    )
    with pytest.raises(psycopg.errors.CheckViolation):
        full.run("INSERT INTO events VALUES (1, now(), 'refused')")
    report = full.roll_over(daily())
    assert (report.error, report.ahead) == (None, 3)
    assert full.run("SELECT count(*) FROM pg_constraint WHERE conname ~ 'tenantry'") == [(0,)]
    full.run("INSERT INTO events VALUES (1, now(), 'taken')")


@pytest.mark.parametrize("statement", range(7))
def test_a_promotion_cut_off_between_its_transactions(full, statement):
    """The next run goes on; nothing is hidden or lost meanwhile."""
    before = full.run(ROWS)
    with pytest.raises(psycopg.OperationalError), full.session() as conn:
        _killed_before(conn, full, statement)
        roll_over(conn, {("public", "events"): daily()}, full.budget)
    assert full.run(ROWS) == before
    report = full.roll_over(daily())
    assert (report.error, report.ahead) == (None, 3)
    assert full.run(ROWS) == before
    assert full.run("SELECT count(*) FROM events_default") == [(0,)]
    assert full.run("SELECT count(*) FROM pg_constraint WHERE conname ~ 'tenantry'") == [(0,)]


def _killed_before(conn, alone, number):
    """End the session just before its n-th statement on the table, as kill -9 would."""
    original, seen = conn.execute, iter(range(1000))

    def execute(query, *arguments, **options):
        text = query if isinstance(query, str) else query.as_string(None)
        if "ALTER TABLE" in text and next(seen) == number:
            alone.run(f"SELECT pg_terminate_backend({conn.info.backend_pid})")
        return original(query, *arguments, **options)

    conn.execute = execute


def test_a_set_of_pg_partman_with_rows_in_its_default(partman):
    """Adopted and continued by us; then pg_partman goes on, whose maintenance had failed."""
    start = partman.today() - timedelta(days=20)
    partman.create_parent("daily", p_premake=1, p_start_partition=f"{start}")
    for it in partman.partitions():
        if it > f"events_p{partman.today() - timedelta(days=9):%Y_%m_%d}" and "default" not in it:
            partman.run(f"DROP TABLE {it}")
    partman.run(
        "INSERT INTO events SELECT it, now() - it * interval '1 hour', 'x'"
        " FROM generate_series(0, 50) AS it"
    )
    partman.configure("infinite_time_partitions = true, premake = 3")
    with pytest.raises(psycopg.errors.RaiseException, match="would be violated"):
        partman.run_maintenance()
    with psycopg.connect(partman.conninfo, autocommit=True) as conn:
        prepare(conn, partman.budget)
        (given,) = read_sets(conn, find_extension(conn))
        policy = adopted_policy(conn, given)
    report = partman.roll_over(policy)
    assert (report.error, report.ahead) == (None, 3)
    assert partman.run("SELECT count(*) FROM events") == [(51,)]
    partman.configure("premake = 6")
    partman.run_maintenance()
    assert partman.plan(policy).steps == ()
