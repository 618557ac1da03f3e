"""A PgBouncer that pauses, or that is gone for a moment: callers of ``run`` see no error."""

from __future__ import annotations

import threading
from contextlib import suppress

import pytest

from tenantry import AlreadyDone, Query, Router, mint_agent_id
from tenantry_ops.bouncer import paused

pytestmark = pytest.mark.slow

AGENT = "INSERT INTO agents (tenant_id, id, name) VALUES (%s, %s, 'a')"


class Load:
    """Threads that write and read through ``run``; every error is kept."""

    def __init__(self, router, tenant, threads=6):
        self.router, self.tenant = router, tenant
        self.acknowledged, self.errors = set(), []
        self.ended = threading.Event()
        self.changed = threading.Condition()
        self.threads = [threading.Thread(target=self.run) for _ in range(threads)]

    def __enter__(self):
        for it in self.threads:
            it.start()
        return self

    def __exit__(self, *exc):
        self.ended.set()
        for it in self.threads:
            it.join()

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
            with self.changed:
                self.acknowledged.add(agent)
                self.changed.notify_all()

    def await_more(self, count=100):
        with self.changed:
            wanted = len(self.acknowledged) + count
            assert self.changed.wait_for(
                lambda: self.errors or len(self.acknowledged) >= wanted, timeout=30
            )
        assert self.errors == []


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
            load.await_more()
            with paused([own.pooler], ["shard-1", "shard-2"]):
                pass
        load.await_more()
    judge(load)


def test_a_restart(own, program, routed, tenant):
    """Connections are lost, also during COMMIT; what happened is found out by its operation."""
    children = []
    with Load(routed, tenant) as load:
        for _ in range(3):
            load.await_more()
            own.down()
            children.append(own.up(program=program))
        load.await_more()
    judge(load)
    own.down()
    for child in children:
        child.wait()
