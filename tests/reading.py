"""Declared reads in tests: a replica that lags, is caught up, or loses its sessions."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import timedelta

import psycopg

from tenantry import AtLeast, Query, Stale, mint_agent_id
from tenantry.replicas.news import wait_for_news
from tenantry_schema.models import Agent
from tenantry_schema.naming import SHARD_DATABASE

COUNT = "SELECT count(*) FROM agents WHERE tenant_id = %s"
#: Younger than any replica can show, so that the primary answers.
NEWEST = Stale(seconds=1e-6)
LENIENT = Stale(seconds=60, otherwise="wait", wait=timedelta(seconds=20))


def shard_of(fleet, router, tenant):
    name = router.map.shards[router.where(tenant=tenant).shard].name
    return next(it for it in fleet.shards if it.name == name)


def add_agent(router, tenant):
    """Write one row, and return where it stands."""
    with router.session(tenant=tenant, token=True) as session:
        session.add(Agent(tenant_id=tenant, id=mint_agent_id(tenant), name="a"))
    return session.token


@contextmanager
def no_replay(fleet, shard):
    """Let a shard's replica fall behind."""
    conninfo = fleet.superuser_conninfo(shard.replicas[0], SHARD_DATABASE)
    with psycopg.connect(conninfo, autocommit=True) as conn:
        conn.execute("SELECT pg_wal_replay_pause()")
        try:
            yield conn
        finally:
            conn.execute("SELECT pg_wal_replay_resume()")


def on_replica(fleet, shard, receipt):
    (server,) = shard.replicas
    # A pooler's entry for a node has its name.
    known = f":{server.port}/" in receipt.node or receipt.node.endswith(f"/{server.name}")
    return receipt.role == "replica" and known


def count(tenant, *, last=False):
    rows = yield Query(COUNT, (tenant,), last=last)
    return rows[0][0]


def until_older(router, tenant, shard, seconds):
    """Wait until the sampler knows a replica to be older than so much."""
    watch = router._lookout.watch(router.map.shards[router.where(tenant=tenant).shard])
    name = shard.replicas[0].name
    for _ in range(400):
        known = router.stats()["shards"][shard.name]["replicas"]
        if known.get(name) is not None and known[name] > seconds * 1000:
            return
        wait_for_news(watch, 0.1)
    raise AssertionError(known)


def until_replayed(router, tenant, token):
    """Wait until a replica shows what the token stands for."""
    wait = AtLeast(token, otherwise="wait", wait=timedelta(seconds=20))
    router.run(lambda: count(tenant), tenant=tenant, read=wait)


def backend_of(conn):
    return conn.execute("SELECT pg_backend_pid()").fetchone()[0]


@contextmanager
def terminating(fleet, shard):
    """Give what ends a session of a shard's replica."""
    replica = fleet.superuser_conninfo(shard.replicas[0], SHARD_DATABASE)
    with psycopg.connect(replica, autocommit=True) as superuser:
        yield lambda pid: superuser.execute("SELECT pg_terminate_backend(%s, 20000)", (pid,))
