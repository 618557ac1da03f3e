"""Entries of a real PgBouncer that lead where they should not: the router refuses what is there."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from uuid import uuid4

import psycopg
import pytest
from fix_bouncer import lead, patiently_connected, rewrite
from fix_router import make_tenant
from reading import NEWEST

from tenantry import AsyncRouter, Query, Router, mint_agent_id
from tenantry.errors import ShardUnavailable, Unavailable
from tenantry_schema.naming import APP, SHARD_DATABASE
from tenantry_schema.query import one

READ = "SELECT tenant_id FROM tenants WHERE tenant_id = %s"
PID = "SELECT pg_backend_pid()"
AGENT = "INSERT INTO agents (tenant_id, id, name) VALUES (%s, %s, 'a')"


def written(tenant, agent):
    return lambda: one(Query(AGENT, (tenant, agent)))


def written_at_last(tenant, agent):
    return lambda: one(Query(AGENT, (tenant, agent), last=True))


def written_serializably(tenant, agent):
    def work():
        yield Query("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
        yield Query(AGENT, (tenant, agent))

    return work


WRITES = [{}, {"operation": "once"}, {"token": True}]
ASKED = [
    *product([written, written_at_last], [*WRITES, {"read": NEWEST}]),
    *product([written_serializably], WRITES),
]


@pytest.mark.parametrize("seen", ["by the connection", "by another"])
def test_an_entry_that_leads_to_a_deposed_primary_is_refused(
    laid_out, pooler, opened, tenant, seen
):
    """Also when it was led there after the connection was made: each transaction asks."""
    agent = mint_agent_id(tenant)
    with opened(laid_out.catalog_conninfo(), pooler=pooler, pool_size=1, attempts=1) as router:
        router.run(written(tenant, mint_agent_id(tenant)), tenant=tenant)
        serving = router._pools.find(router.map.shards[router.where(tenant=tenant).shard], None)
        (conn,) = serving._pool._pool
        before = conn.timeline
        assert serving.place.reached == before
        # As if one who was asked had been on a later timeline.
        if seen == "by another":
            serving.place.reached += 1
        else:
            conn.timeline += 1
        for work, options in (it for it in ASKED for _ in range(8)):
            with pytest.raises(ShardUnavailable, match="deposed"):
                router.run(work(tenant, agent), tenant=tenant, **options)
        serving.place.reached = conn.timeline = before
        gone = Query("SELECT name FROM agents WHERE tenant_id = %s AND id = %s", (tenant, agent))
        assert router.run(lambda: one(gone), tenant=tenant) is None


@pytest.mark.slow
def test_an_entry_refuses_a_server_that_became_a_replica(bouncer, laid_out, pooler, tenant):
    """The shard's entry, led to a replica by mistake, answers nothing rather than stale rows."""
    replica = laid_out.shards[0].replicas[0]
    text = (bouncer.directory / "pgbouncer.ini").read_text()
    primary = laid_out.shards[0].primary
    line = next(it for it in text.splitlines() if it.startswith("shard-1 "))
    wrong = line.replace(f"port={primary.port}", f"port={replica.port}")
    assert wrong != line
    rewrite(bouncer, text.replace(line, wrong))
    try:
        conninfo = laid_out.conninfo(primary, user=APP, dbname="shard-1-b")
        with patiently_connected(conninfo, bouncer) as conn:
            # By its own name the replica answers.
            assert conn.execute("SELECT pg_is_in_recovery()").fetchone() == (True,)
        with Router(laid_out.catalog_conninfo(), pooler=pooler, acquire_timeout=1) as router:
            home = next(it for it in iter(lambda: make_tenant(laid_out), None) if at(router, it))
            with pytest.raises(Unavailable):
                with router.session(tenant=home, deadline=1.5) as session:
                    session.connection()
    finally:
        rewrite(bouncer, text)
    assert SHARD_DATABASE in line


@pytest.mark.slow
def test_an_entry_that_leads_to_another_shard_is_refused(bouncer, laid_out, pooler, tenant):
    """Who answers says whose it is, and nothing is asked there."""
    primaries = {it.name: it.primary for it in laid_out.shards}
    with Router(laid_out.catalog_conninfo(), pooler=pooler, acquire_timeout=1) as router:
        mine = router.map.shards[router.where(tenant=tenant).shard]
        (other,) = primaries.keys() - {mine.name}
        lead(bouncer, mine.name, primaries[other])
        try:
            with pytest.raises(ShardUnavailable, match=f"not of {mine.home}"):
                with router.connection(tenant=tenant):
                    pass
        finally:
            lead(bouncer, mine.name, primaries[mine.name])
    # PgBouncer holds back from a server that refused the other one's password.
    with Router(laid_out.catalog_conninfo(), pooler=pooler, acquire_timeout=20) as router:
        with router.connection(tenant=tenant) as conn:
            assert conn.execute(READ, (tenant,)).fetchall() == [(tenant,)]


def at(router, tenant):
    return router.map.shards[router.where(tenant=tenant).shard].name == "shard-1"


@pytest.mark.slow
@pytest.mark.parametrize("door", ["sync", "async"])
async def test_a_silent_session_of_a_deposed_primary(laid_out, tenant, pooler, freeze, door):
    """Before a call is served, a session is asked where it leads by now: not for ever."""
    # So long after its beginning the sampler would say what is so.
    options = {"pooler": pooler, "pool_size": 1, "sample_interval": 60}
    refused = pytest.raises(ShardUnavailable, match="no connection to the primary")
    if door == "sync":
        with Router(laid_out.catalog_conninfo(), **options) as router:
            with router.connection(tenant=tenant) as conn:
                (pid,) = conn.execute(PID).fetchone()
            freeze(pid)
            depose(conn)
            with in_time(), refused, router.connection(tenant=tenant, deadline=0.4):
                pass
    else:
        async with AsyncRouter(laid_out.catalog_conninfo(), **options) as router:
            async with router.connection(tenant=tenant) as conn:
                (pid,) = await (await conn.execute(PID)).fetchone()
            freeze(pid)
            depose(conn)
            with in_time(), refused:
                async with router.connection(tenant=tenant, deadline=0.4):
                    pass


def depose(conn):
    """Let a router believe that the shard has gone on to another timeline."""
    watch = conn.place.watch
    watch.publish(replace(watch.state, timeline=conn.timeline + 1))


@contextmanager
def in_time():
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < 2


def test_who_may_not_come_through(bouncer, laid_out):
    """Superusers, replication, wrong passwords, unknown entries."""
    primary = laid_out.shards[0].primary
    for user, dbname in (
        ("postgres", "shard-1"),
        ("tenantry_replication", "shard-1"),
        (APP, "pgbouncer"),
        (APP, f"nowhere-{uuid4().hex[:6]}"),
    ):
        conninfo = laid_out.conninfo(primary, user=user, dbname=dbname)
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(conninfo, port=bouncer.pooler.port, connect_timeout=5)
