"""The primary is killed while tasks are claimed, and its replica takes over: judged by history.

Commits wait for the replica (``synchronous_standby_names``), so what was acknowledged is there
after the promotion: no claim is forgotten, no fence is given twice, no finished task comes back.
"""

from __future__ import annotations

import threading
import time
from itertools import pairwise
from uuid import uuid4

import psycopg
import pytest
from fix_bouncer import lead
from judge import judged, wait_until_at_most

from tenantry import LeaseLost, Router, Worker, actors, agents, tasks
from tenantry_ops.fleet import Fleet
from tenantry_ops.fleet.process import kill
from tenantry_ops.initialise import embedded_plan, initialise
from tenantry_ops.tenants import create
from tenantry_schema.naming import OPERATOR, SHARD_DATABASE

pytestmark = pytest.mark.slow


@pytest.fixture
def fleet(folder, pytestconfig):
    """One shard, whose commits wait for its replica."""
    pg_bin = pytestconfig.getoption("--pg-bin")
    with Fleet.up(folder, shards=1, replicas=1, profile="durable", pg_bin=pg_bin) as made:
        initialise(embedded_plan(made, buckets=4))
        (shard,) = made.shards
        with superuser(made, shard.primary) as conn:
            conn.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            conn.execute("SELECT pg_reload_conf()")
            state = "SELECT sync_state FROM pg_stat_replication"
            while conn.execute(state).fetchone() != ("sync",):
                conn.execute("SELECT pg_sleep(0.05)")
        yield made
        made.discard()


def superuser(fleet, server):
    conninfo = fleet.superuser_conninfo(server, SHARD_DATABASE)
    return psycopg.connect(conninfo, autocommit=True)


def kill_and_promote(fleet, pooler):
    """SIGKILL to the primary and its children, and its replica becomes the primary."""
    (shard,) = fleet.shards
    kill(shard.primary)
    with superuser(fleet, shard.replicas[0]) as conn:
        assert conn.execute("SELECT pg_promote()").fetchone() == (True,)
    lead(pooler, shard.name, shard.replicas[0])


def test_no_claim_is_lost_and_none_is_given_twice(fleet, in_front):
    """Two workers go on at the new primary, whom nobody tells; an actor recovers there."""
    tenant = uuid4()
    create(fleet.catalog_conninfo(OPERATOR), "acme", str(tenant))
    retry = tasks.Retry(crashes=10_000)
    rows = [[tasks.NewTask("k", retry=retry) for _ in range(6)] for _ in range(20)]
    edges = [tasks.Edge(two.id, one.id) for row in rows for one, two in pairwise(row)]
    graph = [task for row in rows for task in row]
    finished = []

    def handler(job):
        time.sleep(0.02)
        finished.append((job.claim.id, job.claim.fence))

    options = {"acquire_timeout": 1, "deadline": 5}
    with in_front(fleet) as pooler, Router(fleet.catalog_conninfo(), **options) as router:

        def run(factory):
            return router.run(factory, tenant=tenant)

        agent = run(agents.register(tenant, name="a"))
        actor = run(actors.register(tenant, kind="k", agent=agent.id))
        mine = run(actors.activate(tenant, actor.id)).actor
        own = tasks.NewTask("own", queue="own", actor=actor.id)
        run(tasks.submit(tenant, [*graph, own], edges))
        (held,) = run(tasks.claim(tenant, mine, queue="own", lease=600))
        saved = run(actors.save(mine, {"at": "the old primary"}))
        options = {"tenants": [tenant], "lease": 2.0, "poll": 0.1, "concurrency": 3}
        made = [Worker(router, {"k": handler}, listen=False, **options) for _ in range(2)]
        threads = [threading.Thread(target=it.run) for it in made]
        for thread in threads:
            thread.start()
        wait_until_at_most(router, tenant, len(graph) * 0.6)
        kill_and_promote(fleet, pooler)
        wait_until_at_most(router, tenant, 1)
        for worker in made:
            worker.stop()
        for thread in threads:
            thread.join()
        found = run(actors.recover(tenant, actor.id))
        assert found.actor == saved
        assert [(it.id, it.fence, it.owner) for it in found.claims] == [
            (held.id, held.fence, mine.owner)
        ]
        again = run(actors.activate(tenant, actor.id))
        with pytest.raises(LeaseLost):
            run(tasks.finish(held))
        run(tasks.finish(again.claims[0]))
        proof = judged(router, tenant, edges)
    assert proof.done == proof.tasks == len(graph) + 1
    assert len(finished) == len(set(finished))
