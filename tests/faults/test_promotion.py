"""A primary that dies or is left behind, seen from a router that nobody restarts or tells."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import psycopg
import pytest
from crowd import Writers
from fix_failover import AGENT, freeze

from tenantry import (
    AtLeast,
    Outcome,
    OutcomeUnknown,
    Receipt,
    Router,
    SplitBrain,
    Stale,
    TokenLost,
    mint_agent_id,
)
from tenantry.errors import ShardUnavailable, TenantryError
from tenantry_ops.fleet.process import kill

pytestmark = pytest.mark.slow


def test_the_new_primary_is_found(stage):
    """Within two seconds of its taking writes, and every acknowledged row is there."""
    before = [stage.write() for _ in range(20)]
    caught_up = AtLeast(before[-1].token, otherwise="wait")
    assert stage.count(read=caught_up) == 20
    stage.kill(stage.old)
    stage.promote()
    after = stage.write(deadline=2.0)
    assert stage.tells(after, stage.new)
    assert after.token.timeline == 2
    assert stage.count() == 21
    state = stage.until(lambda it: it.settled and it.primary is not None)
    assert [it.timeline for it in state.lineage] == [1, 2]
    # What was replicated before the switch is known to be there: the token means the primary, also
    # when there is a replica again (tests/unit/router/test_plan.py).
    receipt = Receipt()
    assert stage.count(read=AtLeast(before[-1].token), receipt=receipt) == 21
    assert receipt.role == "primary"


class Writing(Writers):
    """Threads that write through the router, and what they were told of every row."""

    def __init__(self, stage, count=6):
        super().__init__(*[self.write] * count)
        self.stage = stage
        self.refused, self.doubted = set(), {}

    def write(self):
        tenant = self.stage.tenant
        while not self.ended.is_set():
            agent = mint_agent_id(tenant)
            known = {"deadline": 5, "operation": str(agent)}
            try:
                with self.stage.router.connection(tenant=tenant, **known) as conn:
                    conn.execute(AGENT, (tenant, agent))
            except OutcomeUnknown as error:
                self.doubted[agent] = error
            except (psycopg.Error, TenantryError):
                self.refused.add(agent)
            else:
                self.note(partial(self.acknowledged.add, agent))


def test_a_synchronous_failover_loses_nothing_and_makes_nothing_up(stage):
    """Under load: acknowledged rows are there, refused ones are not, doubted ones are resolved."""
    with stage.superuser(stage.old) as conn:
        conn.execute(f"ALTER SYSTEM SET synchronous_standby_names = '\"{stage.new.name}\"'")
        conn.execute("SELECT pg_reload_conf()")
    with Writing(stage) as writing:
        writing.await_more(200)
        kill(stage.old)
        stage.promote()
        writing.await_more(1, seconds=2)
        writing.await_more(200)
    with stage.router.connection(tenant=stage.tenant) as conn:
        there = {row[0] for row in conn.execute("SELECT id FROM agents")}
    assert writing.acknowledged <= there
    assert not writing.refused & there
    for agent, error in writing.doubted.items():
        expected = Outcome.COMMITTED if agent in there else Outcome.ROLLED_BACK
        assert stage.router.outcome(error) is expected, "the new primary knows by its operation"


@contextmanager
def cut_off(stage):
    """Let the replica receive nothing more."""
    with stage.superuser(stage.new) as conn:
        conn.execute("ALTER SYSTEM SET primary_conninfo = ''")
        conn.execute("SELECT pg_reload_conf()")
        gone = "SELECT 1 FROM pg_stat_wal_receiver"
        while conn.execute(gone).fetchone() is not None:
            conn.execute("SELECT pg_sleep(0.02)")
        yield


def unknown(stage, operation=None):
    """Return the error of a COMMIT that happened but came with a warning."""
    with stage.superuser(stage.old) as conn:
        conn.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        conn.execute("SELECT pg_reload_conf()")
        try:
            with pytest.raises(OutcomeUnknown) as caught:
                # Until the setting is in force commits succeed, each operation's once.
                for number in range(50):
                    key = operation and f"{operation} {number}"
                    stage.write(deadline=1.0, operation=key)
        finally:
            conn.execute("ALTER SYSTEM RESET synchronous_standby_names")
            conn.execute("SELECT pg_reload_conf()")
    return caught.value


def test_what_an_asynchronous_failover_lost_is_never_called_there(stage):
    """Its token is lost, its outcome is rolled back or unknown: also when its number is reused."""
    kept = stage.write(operation="kept")
    assert stage.count(read=AtLeast(kept.token, otherwise="wait")) == 1
    with cut_off(stage):
        lost = stage.write(operation="lost")
        by_id, by_key = unknown(stage), unknown(stage, operation="lost, too")
    assert by_id.xid is not None
    stage.kill(stage.old)
    with ThreadPoolExecutor() as pool:
        # Whoever asks while nobody serves waits, and gets the same answer.
        stage.until(lambda it: it.primary is None)
        waiting = pool.submit(stage.count, read=AtLeast(lost.token), deadline=20)
        stage.promote()
        with pytest.raises(TokenLost, match="timeline 1"):
            waiting.result()
    stage.until(lambda it: it.settled and it.primary is not None)
    with pytest.raises(TokenLost, match="timeline 1"):
        stage.count(read=AtLeast(lost.token))
    assert stage.count(read=AtLeast(kept.token)) == 1
    with stage.superuser(stage.new) as conn:
        for _ in range(200):
            conn.execute("SELECT pg_current_xact_id()")
        status = conn.execute("SELECT pg_xact_status(%s::text::xid8)", (by_id.xid,)).fetchone()
    assert status == ("committed",)
    assert stage.router.outcome(by_id) is Outcome.UNKNOWN
    assert stage.router.outcome(by_key) is Outcome.ROLLED_BACK
    stage.write(operation=by_key.operation)
    assert stage.count() == 2


def test_two_primaries_stop_all_writes(stage):
    """Until one is gone; then the higher timeline wins, and a deposed one alone never does."""
    stage.write()
    stage.promote()
    stage.until(lambda it: it.split)
    with pytest.raises(SplitBrain, match=f"{stage.old.name} and {stage.new.name}"):
        stage.write()
    with pytest.raises(SplitBrain), stage.router.session(tenant=stage.tenant) as session:
        session.connection()
    with pytest.raises(SplitBrain):
        stage.count(read=Stale(seconds=1e-6))
    # Nor does a process that has just begun take the first that it finds.
    for _ in range(5):
        with Router(stage.fleet.catalog_conninfo()) as fresh, pytest.raises(SplitBrain):
            with fresh.connection(tenant=stage.tenant) as conn:
                conn.execute(AGENT, (stage.tenant, mint_agent_id(stage.tenant)))
    stage.kill(stage.old)
    assert stage.write(deadline=2.0).token.timeline == 2
    stage.kill(stage.new)
    stage.fleet.start_server(stage.old)
    stage.lead(stage.old)
    stage.until(lambda it: "deposed" in it.refused.get(stage.old.name, ""))
    with pytest.raises(ShardUnavailable, match="deposed"):
        stage.write(deadline=2.0)


def test_a_deposed_primary_that_nobody_sees_acknowledges_nothing(stage):
    """A pooler is led back to it while the new one is well: writes fail, and never get there."""
    stage.kill(stage.old)
    stage.promote()
    (shard,) = stage.router.map.shards.values()
    seen = tuple(it for it in shard.nodes if it.name == stage.new.name)
    stage.router.map.shards[shard.id] = replace(shard, nodes=seen)
    assert stage.write(deadline=2.0).token.timeline == 2
    stage.fleet.start_server(stage.old)
    stage.lead(stage.old)
    if stage.pooler is None:
        assert stage.write(deadline=2.0).token.timeline == 2
    else:
        with pytest.raises(ShardUnavailable, match="deposed"):
            stage.write(deadline=2.0)
        stage.lead(stage.new)
        assert stage.write(deadline=2.0).token.timeline == 2
    assert stage.count(deadline=2.0) == 2


def test_a_transaction_that_outlived_its_primary_is_not_committed(stage):
    """It began before the other was promoted: COMMIT is refused, not sent to the deposed one."""
    with pytest.raises(SplitBrain), stage.router.connection(tenant=stage.tenant) as conn:
        conn.execute(AGENT, (stage.tenant, mint_agent_id(stage.tenant)))
        stage.promote()
        stage.until(lambda it: it.split)
    stage.kill(stage.old)
    assert stage.count(deadline=2.0) == 0


def test_a_primary_that_hangs_is_left_behind(stage):
    """Sessions that were idle in the pool do not keep callers: each write ends at the new one."""
    stage.write()
    with stage.router.connection(tenant=stage.tenant), stage.router.connection(tenant=stage.tenant):
        pass
    freeze(stage.old)
    try:
        stage.promote()
        stage.until(lambda it: it.primary is not None and it.primary.name == stage.new.name)
        begun = time.monotonic()
        after = stage.write(deadline=2.0)
        assert time.monotonic() - begun < 2
        assert stage.tells(after, stage.new)
        assert after.token.timeline == 2
    finally:
        kill(stage.old)
