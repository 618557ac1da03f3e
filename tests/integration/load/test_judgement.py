"""Real writes, real databases, and somebody who tampers with them: the judge notices."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql

from tenantry import OutcomeUnknown, Router
from tenantry_loadtest.calls import KEYED, task_id
from tenantry_loadtest.client import Client
from tenantry_loadtest.history import Outcome, Run, Seat
from tenantry_loadtest.journal import Journal, read_history
from tenantry_loadtest.judge import Fault
from tenantry_loadtest.seats import make_seats, plan_run, remove_seats
from tenantry_loadtest.smoke import judge_record
from tenantry_loadtest.workload import Kind, Operation, operations
from tenantry_ops.cluster import read_places
from tenantry_schema.naming import OPERATOR

if TYPE_CHECKING:
    from pathlib import Path

OPERATIONS = 30


@dataclass
class Played:
    """A run that was played by one user, without Locust."""

    catalog: str
    run: Run
    record: Path
    told: list

    def client(self, router, journal):
        return Client(router, self.run.seats, journal, lambda **call: self.told.append(call))

    def do(self, router, *made):
        with Journal.append(self.record) as journal:
            client = self.client(router, journal)
            for operation in made:
                client.do(operation)

    def acknowledged(self, table):
        writes = read_history(self.record).writes.values()
        return next(it for it in writes if it.table == table and it.outcome is Outcome.ACKNOWLEDGED)

    def judge(self, **options):
        return judge_record(self.catalog, self.record, **options)

    def faults(self):
        return {(it.fault, it.key) for it in self.judge().findings}

    def home(self, tenant):
        """Return the tenant's schema, how its shard is reached, and the same of another bucket."""
        places = read_places(self.catalog)
        mine = places.map.of_tenant(tenant)
        other = next(it for it in places.map.placements() if it.shard != mine.shard)
        reached = {it.id: it.conninfo for it in places.shards}
        return (mine.schema, reached[mine.shard]), (other.schema, reached[other.shard])


@pytest.fixture
def played(laid_out, router, tmp_path):
    catalog = laid_out.catalog_conninfo(OPERATOR)
    run = plan_run(seed=7, tenants=2)
    make_seats(catalog, laid_out.catalog_conninfo(), run, lambda *_: None)
    played = Played(catalog, run, tmp_path / "record.jsonl", [])
    Journal.create(played.record, run).close()
    made = operations(run=run.name, seed=run.seed, user=0, seats=len(run.seats))
    played.do(router, *islice(made, OPERATIONS))
    return played


def execute(conninfo, statement, values, **names):
    with psycopg.connect(conninfo) as conn:
        named = {name: sql.Identifier(*value) for name, value in names.items()}
        done = conn.execute(sql.SQL(statement).format(**named), values)
        assert done.rowcount == 1


def test_an_honest_run(played):
    """Every kind was done, everything was acknowledged, and everything is there; then it goes."""
    assert {call["name"] for call in played.told} == set(Kind)
    assert [call["exception"] for call in played.told] == [None] * OPERATIONS
    verdict = played.judge(remove=True)
    writes = sum(call["request_type"] == "write" for call in played.told)
    assert (verdict.clean, verdict.acknowledged, verdict.failed) == (True, writes, 0)
    keys = [seat.key for seat in played.run.seats]
    for shard in read_places(played.catalog).shards:
        with psycopg.connect(shard.conninfo) as conn:
            for table in (*KEYED, "tenants"):
                query = sql.SQL("SELECT 1 FROM {} WHERE tenant_id = ANY(%s)")
                query = query.format(sql.Identifier("fleet", table))
                assert conn.execute(query, (keys,)).fetchone() is None
    with psycopg.connect(played.catalog) as conn:
        query = "SELECT 1 FROM tenantry.tenants WHERE tenant_key = ANY(%s)"
        assert conn.execute(query, ([str(key) for key in keys],)).fetchone() is None


@pytest.mark.parametrize("table", KEYED)
def test_an_acknowledged_row_that_was_deleted(played, table):
    """One row of each table: named, and nothing else is; nothing is removed then."""
    write = played.acknowledged(table)
    (schema, home), _ = played.home(write.tenant)
    execute(
        home,
        "DELETE FROM {table} WHERE tenant_id = %s AND {column} = %s",
        (write.tenant, write.key),
        table=(schema, table),
        column=(KEYED[table],),
    )
    assert played.faults() == {(Fault.MISSING, write.key)}
    assert not played.judge(remove=True).clean
    assert played.faults() == {(Fault.MISSING, write.key)}


@pytest.mark.parametrize("table", ["logs", "agents"])
def test_a_row_that_was_doubled_at_home(played, table):
    """Postgres allows it, where only the id is unique; the judge does not."""
    write = played.acknowledged(table)
    (schema, home), _ = played.home(write.tenant)
    execute(
        home,
        "INSERT INTO {table} (tenant_id, id, {column}) VALUES (%s, gen_random_uuid(), %s)",
        (write.tenant, write.key),
        table=(schema, table),
        column=(KEYED[table],),
    )
    assert played.faults() == {(Fault.DOUBLED, write.key)}


@pytest.mark.parametrize("moved", [False, True])
def test_a_row_on_another_shard(played, moved):
    """A copy that a move left behind is a double; without the original it is out of place."""
    write = played.acknowledged("tasks")
    (schema, home), (other_schema, other) = played.home(write.tenant)
    execute(
        other,
        "INSERT INTO {table} (tenant_id, name) VALUES (%s, 'copy')",
        (write.tenant,),
        table=(other_schema, "tenants"),
    )
    execute(
        other,
        "INSERT INTO {table} (tenant_id, id, kind, idempotency_key) "
        "VALUES (%s, gen_random_uuid(), 'copy', %s)",
        (write.tenant, write.key),
        table=(other_schema, "tasks"),
    )
    if moved:
        execute(
            home,
            "DELETE FROM {table} WHERE tenant_id = %s AND idempotency_key = %s",
            (write.tenant, write.key),
            table=(schema, "tasks"),
        )
    (finding,) = played.judge().findings
    assert (finding.fault, finding.key) == (
        Fault.MISPLACED if moved else Fault.DOUBLED,
        write.key,
    )
    assert other_schema in finding.detail


def test_a_row_that_nobody_asked_for(played):
    """It carries a key of the run, and the record knows nothing of it."""
    seat = played.run.seats[0]
    (schema, home), _ = played.home(seat.key)
    stray = f"{played.run.name}-stray"
    execute(
        home,
        "INSERT INTO {table} (tenant_id, id, name) VALUES (%s, gen_random_uuid(), %s)",
        (seat.key, stray),
        table=(schema, "agents"),
    )
    assert played.faults() == {(Fault.STRAY, stray)}


class Liar:
    """A router whose ``run`` does the work, or does not, and then tells something else."""

    def __init__(self, router: Router, error: Exception, *, does: bool) -> None:
        self._router = router
        self._error = error
        self._does = does

    def run(self, work, **named):
        if self._does:
            self._router.run(work, **named)
        raise self._error


@pytest.mark.parametrize("does", [False, True])
def test_a_failure_that_was_none(played, router, does):
    """A write that was reported as failed and is there breaks the promise as a lost one does."""
    key = f"{played.run.name}-1-0"
    liar = Liar(router, RuntimeError("it did not happen"), does=does)
    played.do(liar, Operation(Kind.ENQUEUE, 0, key, 0.0))
    assert played.faults() == ({(Fault.GHOST, key)} if does else set())
    assert played.judge().failed == 1
    assert "it did not happen" in read_history(played.record).writes[key].reason


@pytest.mark.parametrize("does", [False, True])
def test_an_unknown_outcome_is_found_by_looking(played, router, does):
    """Both are allowed; the verdict says which it was."""
    liar = Liar(router, OutcomeUnknown("cut off"), does=does)
    played.do(liar, Operation(Kind.ENQUEUE, 0, f"{played.run.name}-1-0", 0.0))
    verdict = played.judge()
    assert (verdict.clean, verdict.committed, verdict.absent) == (True, int(does), int(not does))


def test_a_read_that_misses_what_was_acknowledged(played, router):
    """A user looks for its own task; somebody was there before."""
    key, seat = f"{played.run.name}-1-0", played.run.seats[0]
    (schema, home), _ = played.home(seat.key)
    with Journal.append(played.record) as journal:
        client = played.client(router, journal)
        client.do(Operation(Kind.ENQUEUE, 0, key, 0.0))
        client.do(Operation(Kind.READ, 0, key, 0.0))
        assert read_history(played.record).unread == ()
        execute(
            home,
            "DELETE FROM {table} WHERE tenant_id = %s AND id = %s",
            (seat.key, task_id(seat, key)),
            table=(schema, "tasks"),
        )
        client.do(Operation(Kind.READ, 0, key, 0.0))
    assert played.faults() == {(Fault.MISSING, key), (Fault.UNREAD, key)}


def test_a_write_in_flight_is_waited_for(played, laid_out):
    """Whoever looks before the fleet is quiet sees nothing of a COMMIT that is on its way."""
    write = played.acknowledged("logs")
    (schema, home), _ = played.home(write.tenant)
    verdicts = []
    with psycopg.connect(home, application_name=played.run.name) as late:
        late.execute(
            sql.SQL("DELETE FROM {} WHERE tenant_id = %s AND message = %s").format(
                sql.Identifier(schema, "logs")
            ),
            (write.tenant, write.key),
        )
        judging = threading.Thread(target=lambda: verdicts.append(played.judge()))
        judging.start()
        await_quiet_question(laid_out, judging)
        late.commit()
    judging.join()
    assert [(it.fault, it.key) for it in verdicts[0].findings] == [(Fault.MISSING, write.key)]


def await_quiet_question(fleet, judging):
    """Wait until the judge has asked whether it is quiet, on either shard."""
    asked = (
        "SELECT 1 FROM pg_stat_activity WHERE application_name = 'tenantry-ops' "
        "AND query LIKE '%FROM pg_stat_activity JOIN pg_locks%'"
    )
    with ExitStack() as stack:
        watchers = [
            stack.enter_context(psycopg.connect(fleet.superuser_conninfo(shard.primary)))
            for shard in fleet.shards
        ]
        while not any(conn.execute(asked).fetchone() for conn in watchers):
            assert judging.is_alive()
            for conn in watchers:
                conn.rollback()


def test_only_tenants_of_a_run_are_removed(played, tenant):
    """A record that names somebody else's tenant does not take it away."""
    foreign = replace(played.run, seats=(*played.run.seats, Seat("acme", tenant, tenant)))
    places = read_places(played.catalog)
    remove_seats(played.catalog, places, foreign)
    with psycopg.connect(played.catalog) as conn:
        query = "SELECT tenant_key FROM tenantry.tenants WHERE tenant_key = ANY(%s)"
        keys = [str(seat.key) for seat in foreign.seats]
        assert conn.execute(query, (keys,)).fetchall() == [(str(tenant),)]
    (schema, home), _ = played.home(tenant)
    with psycopg.connect(home) as conn:
        query = sql.SQL("SELECT 1 FROM {}").format(sql.Identifier(schema, "tenants"))
        assert conn.execute(query).fetchone() is not None
