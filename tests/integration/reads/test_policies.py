"""Declared reads on real replicas: who answers, how old at most, and what is counted."""

from __future__ import annotations

from datetime import timedelta

import pytest
from reading import (
    COUNT,
    LENIENT,
    add_agent,
    count,
    no_replay,
    on_replica,
    shard_of,
    until_replayed,
)
from sqlalchemy import func, select, text

from tenantry import AsyncRouter, AtLeast, Receipt, Router, Stale, TooStale, mint_agent_id
from tenantry_schema.models import Agent

AGENT = "INSERT INTO agents (tenant_id, id, name) VALUES (%s, %s, 'a')"


def test_a_stale_read_is_answered_by_a_replica(laid_out, router, tenant):
    """In every form; the receipt says by whom, and how old at most."""
    shard = shard_of(laid_out, router, tenant)
    token = add_agent(router, tenant)
    wait = AtLeast(token, otherwise="wait", wait=timedelta(seconds=20))
    with router.session(tenant=tenant, read=wait) as session:
        assert session.scalar(select(func.count()).where(Agent.tenant_id == tenant)) == 1
    assert on_replica(laid_out, shard, session.receipt)
    with router.connection(tenant=tenant, read=LENIENT) as conn:
        receipt = conn.receipt
        assert conn.execute(COUNT, (tenant,)).fetchone() == (1,)
    assert on_replica(laid_out, shard, receipt)
    assert 0 < receipt.bound_ms < 60_000
    assert receipt.map_version == router.map.version
    assert not receipt.fallback
    receipt = Receipt()
    assert router.run(lambda: count(tenant), tenant=tenant, read=LENIENT, receipt=receipt) == 1
    assert on_replica(laid_out, shard, receipt)


async def test_the_async_door_reads_as_the_sync_one(laid_out, router, tenant):
    """Session, connection and run."""
    shard = shard_of(laid_out, router, tenant)
    async with AsyncRouter(laid_out.catalog_conninfo()) as door:
        async with door.session(tenant=tenant, token=True) as session:
            session.add(Agent(tenant_id=tenant, id=mint_agent_id(tenant), name="a"))
        wait = AtLeast(session.token, otherwise="wait", wait=timedelta(seconds=20))
        async with door.session(tenant=tenant, read=wait) as session:
            assert len((await session.scalars(select(Agent))).all()) == 1
        assert on_replica(laid_out, shard, session.receipt)
        async with door.connection(tenant=tenant, read=LENIENT) as conn:
            receipt = conn.receipt
            assert await (await conn.execute(COUNT, (tenant,))).fetchone() == (1,)
        assert on_replica(laid_out, shard, receipt)
        receipt = Receipt()
        assert await door.run(lambda: count(tenant), tenant=tenant, read=wait, receipt=receipt) == 1
        assert on_replica(laid_out, shard, receipt)


def test_your_own_writes_are_always_read(router, tenant):
    """Whoever answers, nothing that the token stands for is missing; and replicas do answer."""
    roles = set()
    for number in range(1, 101):
        token = str(add_agent(router, tenant))
        with router.session(tenant=tenant, read=AtLeast(token)) as session:
            assert session.scalar(text("SELECT count(*) FROM agents")) == number
        roles.add(session.receipt.role)
    assert "replica" in roles


def test_an_agents_id_is_enough_on_a_replica(router, tenant):
    """The replica finds the tenant, too; an agent that it does not know yet is the primary's."""
    agent = mint_agent_id(tenant)
    with router.connection(tenant=tenant, token=True) as conn:
        conn.execute(AGENT, (tenant, agent))
        receipt = conn.receipt
    wait = AtLeast(receipt.token, otherwise="wait", wait=timedelta(seconds=20))
    with router.connection(agent=agent, read=wait) as conn:
        assert conn.receipt.role == "replica"
        row = conn.execute("SELECT tenant_id FROM agents").fetchone()
    assert row == (tenant,)


def test_reads_are_counted_by_policy_and_outcome(laid_out, router, tenant):
    """Each once, with what served it."""
    shard = shard_of(laid_out, router, tenant)
    token = add_agent(router, tenant)
    until_replayed(router, tenant, token)
    never = Stale(seconds=1e-6)
    with Router(laid_out.catalog_conninfo()) as counting:

        def read(policy):
            with counting.session(tenant=tenant, read=policy) as session:
                session.execute(text("SELECT 1"))
            return counting.stats()["reads"]

        assert read(None) == {"fresh": {"primary": 1}, "stale": {}, "at_least": {}}
        assert read(LENIENT)["stale"] == {"replica": 1}
        assert read(never)["stale"] == {"replica": 1, "primary": 1}
        assert read(AtLeast(token, otherwise="wait"))["at_least"] == {"replica": 1}
        with no_replay(laid_out, shard):
            newer = add_agent(router, tenant)
            assert read(AtLeast(newer))["at_least"] == {"replica": 1, "primary": 1}
            with pytest.raises(TooStale):
                read(AtLeast(newer, otherwise="error"))
        assert counting.stats()["reads"] == {
            "fresh": {"primary": 1},
            "stale": {"replica": 1, "primary": 1},
            "at_least": {"replica": 1, "primary": 1, "refused": 1},
        }
