"""A primary that dies or is left behind, seen from a router that nobody restarts or tells."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from uuid import uuid4

import psycopg
import pytest
from fix_fleet import server_folder

from tenantry import (
    AtLeast,
    Outcome,
    OutcomeUnknown,
    Query,
    Receipt,
    Router,
    SplitBrain,
    Stale,
    TokenLost,
    mint_agent_id,
)
from tenantry.errors import ShardUnavailable
from tenantry.replicas.news import wait_for_news
from tenantry_ops.fleet import Fleet
from tenantry_ops.initialise import embedded_plan, initialise
from tenantry_ops.tenants import create
from tenantry_schema.naming import OPERATOR, SHARD_DATABASE

pytestmark = pytest.mark.slow

AGENT = "INSERT INTO agents (tenant_id, id, name) VALUES (%s, %s, 'a')"


class Stage:
    """One shard of a primary and a replica, a tenant, and a router that stays open."""

    def __init__(self, fleet, router, tenant):
        self.fleet, self.router, self.tenant = fleet, router, tenant
        (shard,) = fleet.shards
        self.old, (self.new,) = shard.primary, shard.replicas

    def superuser(self, server):
        conninfo = self.fleet.superuser_conninfo(server, SHARD_DATABASE)
        return psycopg.connect(conninfo, autocommit=True)

    def kill(self, server):
        """End a server at once, as a crash does."""
        handle = os.pidfd_open(server.pid)
        os.kill(server.pid, signal.SIGQUIT)
        self.fleet._children[server.name].wait(30)
        os.close(handle)

    def promote(self):
        with self.superuser(self.new) as conn:
            assert conn.execute("SELECT pg_promote()").fetchone() == (True,)

    def write(self, **options):
        """Write one row; return its receipt."""
        receipt = Receipt()
        agent = mint_agent_id(self.tenant)

        def work():
            yield Query(AGENT, (self.tenant, agent))

        self.router.run(work, tenant=self.tenant, token=True, receipt=receipt, **options)
        return receipt

    def count(self, **options):
        def work():
            rows = yield Query("SELECT count(*) FROM agents")
            return rows[0][0]

        return self.router.run(work, tenant=self.tenant, **options)

    def until(self, holds):
        """Wait for what the sampler is to find."""
        watch = self.router._sampler.watch(next(iter(self.router.map.shards.values())))
        for _ in range(300):
            if holds(watch.state):
                return watch.state
            wait_for_news(watch, 0.1)
        raise AssertionError(watch.summary(0.0))


@pytest.fixture
def stage(pytestconfig):
    with server_folder() as folder:
        pg_bin = pytestconfig.getoption("--pg-bin")
        with Fleet.up(folder, shards=1, pg_bin=pg_bin) as fleet:
            initialise(embedded_plan(fleet, buckets=2))
            tenant = uuid4()
            create(fleet.catalog_conninfo(OPERATOR), "acme", str(tenant))
            with Router(fleet.catalog_conninfo()) as router:
                made = Stage(fleet, router, tenant)
                made.until(lambda state: state.settled and state.replicas)
                yield made
            fleet.discard()


def test_the_new_primary_is_found(stage):
    """Within two seconds of its taking writes, and every acknowledged row is there."""
    before = [stage.write() for _ in range(20)]
    caught_up = AtLeast(before[-1].token, otherwise="wait")
    assert stage.count(read=caught_up) == 20
    stage.kill(stage.old)
    stage.promote()
    after = stage.write(deadline=2.0)
    assert str(stage.new.port) in after.node
    assert after.token.timeline == 2
    assert stage.count() == 21
    state = stage.until(lambda it: it.settled and it.primary is not None)
    assert [it.timeline for it in state.lineage] == [1, 2]
    # What was replicated before the switch is known to be there: the token means the primary.
    receipt = Receipt()
    assert stage.count(read=AtLeast(before[-1].token), receipt=receipt) == 21
    assert receipt.role == "primary"


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


def unknown(stage, **options):
    """Return the error of a COMMIT that happened but came with a warning."""
    with stage.superuser(stage.old) as conn:
        conn.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        conn.execute("SELECT pg_reload_conf()")
        try:
            with pytest.raises(OutcomeUnknown) as caught:
                for _ in range(50):
                    stage.write(deadline=1.0, **options)
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
    stage.promote()
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
    stage.write(operation="lost, too")
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
    stage.kill(stage.old)
    assert stage.write(deadline=2.0).token.timeline == 2
    stage.kill(stage.new)
    stage.fleet.start_server(stage.old)
    stage.until(lambda it: "deposed" in it.refused.get(stage.old.name, ""))
    with pytest.raises(ShardUnavailable, match="deposed"):
        stage.write(deadline=2.0)


def test_a_transaction_that_outlived_its_primary_is_not_committed(stage):
    """It began before the other was promoted: COMMIT is refused, not sent to the deposed one."""
    with pytest.raises(SplitBrain), stage.router.connection(tenant=stage.tenant) as conn:
        conn.execute(AGENT, (stage.tenant, mint_agent_id(stage.tenant)))
        stage.promote()
        stage.until(lambda it: it.split)
    stage.kill(stage.old)
    assert stage.count(deadline=2.0) == 0
