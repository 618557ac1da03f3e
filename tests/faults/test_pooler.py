"""A PgBouncer that pauses, or that is gone for a moment: callers of ``run`` see no error."""

from __future__ import annotations

from contextlib import suppress
from functools import partial

import pytest
from crowd import Writers
from fix_failover import AGENT

from tenantry import AlreadyDone, Query, Router, mint_agent_id
from tenantry_ops.bouncer import paused

pytestmark = pytest.mark.slow


class Load(Writers):
    """Threads that write and read through ``run``; every error is kept."""

    def __init__(self, router, tenant, threads=6):
        super().__init__(*[self.run] * threads)
        self.router, self.tenant = router, tenant

    def run(self):
        tenant = self.tenant
        while not self.ended.is_set():
            agent = mint_agent_id(tenant)

            def work(agent=agent):
                yield Query(AGENT, (tenant, agent))
                rows = yield Query("SELECT count(*) FROM agents WHERE id = %s", (agent,))
                return rows[0][0]

            try:
                # Committed, with its result lost on the way: that is no failure.
                with suppress(AlreadyDone):
                    assert self.router.run(work, tenant=tenant, operation=str(agent)) == 1
            except Exception as error:
                self.errors.append(error)
                return
            self.note(partial(self.acknowledged.add, agent))


@pytest.fixture
def routed(laid_out, own):
    pooler = f"host={own.fleet.state.sockets} port={own.pooler.port}"
    with Router(laid_out.catalog_conninfo(), pooler=pooler) as router:
        yield router


def judge(load):
    """Every acknowledged row is there; nobody saw an error."""
    assert load.errors == []
    with load.router.connection(tenant=load.tenant) as conn:
        there = {row[0] for row in conn.execute("SELECT id FROM agents")}
    assert load.acknowledged == there


def test_pauses(own, routed, tenant):
    """They wait, and go on."""
    with Load(routed, tenant) as load:
        for _ in range(3):
            load.await_more(100)
            with paused([own.pooler], ["shard-1", "shard-2"]):
                pass
        load.await_more(100)
    judge(load)


def test_a_restart(own, program, routed, tenant):
    """Connections are lost, also during COMMIT; what happened is found out by its operation."""
    children = []
    with Load(routed, tenant) as load:
        for _ in range(3):
            load.await_more(100)
            own.down()
            children.append(own.up(program=program))
        load.await_more(100)
    judge(load)
    own.down()
    for child in children:
        child.wait()
