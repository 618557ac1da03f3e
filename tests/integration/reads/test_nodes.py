"""Nodes that are listed by mistake, are not there, or take no writes."""

from __future__ import annotations

from dataclasses import replace

import psycopg
import pytest
from reading import add_agent, count, shard_of
from sqlalchemy import text

from tenantry import Router, Stale, TooStale
from tenantry.errors import ShardUnavailable
from tenantry.map import Node, Shard
from tenantry.replicas.news import wait_for_news
from tenantry.replicas.sampler import Sampler
from tenantry_schema.naming import SHARD_DATABASE


def sampled(fleet, router, nodes):
    """Let a sampler look at some nodes, and return what it knows when it knows all."""
    sampler = Sampler(router._follower.given, router.settings.sample_interval)
    sampler.start()
    try:
        watch = sampler.watch(Shard(1, "mixed", tuple(nodes), fleet=router.map.fleet_id))
        for _ in range(100):
            if watch.state.settled:
                break
            wait_for_news(watch, 0.2)
        return watch.state
    finally:
        sampler.stop()


def node(server):
    return Node(server.name, server.host, server.port, SHARD_DATABASE)


def test_nodes_of_another_shard_have_no_say(laid_out, router):
    """Listed by mistake: they say themselves whose they are, beside the primary and without it."""
    first, second = laid_out.shards
    strangers = [node(second.primary), node(second.replicas[0])]
    state = sampled(laid_out, router, [node(first.primary), *strangers])
    assert state.primary.name == first.primary.name
    assert not state.split
    assert not state.replicas
    for name in (it.name for it in strangers):
        assert f"of fleet and shard {router.map.fleet_id}/2" in state.refused[name]
    state = sampled(laid_out, router, strangers)
    assert (state.primary, state.system) == (None, None)


@pytest.mark.direct("a pooler is led by names, which no map misleads; bouncer/test_entries.py does")
def test_nothing_is_written_on_another_shards_primary(laid_out, router, tenant):
    """Not even by a router whose catalog names nobody else."""
    mine = router.map.shards[router.where(tenant=tenant).shard]
    other = next(it for it in router.map.shards.values() if it is not mine)
    with Router(laid_out.catalog_conninfo(), acquire_timeout=1.0) as misled:
        misled.map.shards[mine.id] = replace(mine, nodes=other.nodes)
        with pytest.raises(ShardUnavailable, match=f"is of fleet and shard .*/{other.id}, not of"):
            add_agent(misled, tenant)
        with pytest.raises(TooStale, match=f"of fleet and shard .*/{other.id}"):
            read = Stale(seconds=60, otherwise="error")
            misled.run(lambda: count(tenant), tenant=tenant, read=read)


def test_a_node_that_is_not_there_is_named(laid_out, router):
    """With what the system said."""
    gone = Node("gone", laid_out.shards[0].primary.host, 1, SHARD_DATABASE)
    state = sampled(laid_out, router, [node(laid_out.shards[0].primary), gone])
    assert state.primary.name == laid_out.shards[0].primary.name
    assert "No such file" in state.refused["gone"]


def test_a_primary_that_takes_no_writes(laid_out, tenant):
    """A read-only primary is no primary: for connections that are there and for new ones."""
    with Router(laid_out.catalog_conninfo(), acquire_timeout=1.0) as router:
        shard = shard_of(laid_out, router, tenant)
        with router.session(tenant=tenant) as session:
            session.execute(text("SELECT 1"))
        conninfo = laid_out.superuser_conninfo(shard.primary)
        with psycopg.connect(conninfo, autocommit=True) as conn:
            conn.execute("ALTER SYSTEM SET default_transaction_read_only = on")
            conn.execute("SELECT pg_reload_conf()")
            try:
                with pytest.raises(ShardUnavailable, match=r"read-only|takes no writes"):
                    for _ in range(200):
                        add_agent(router, tenant)
            finally:
                conn.execute("ALTER SYSTEM RESET default_transaction_read_only")
                conn.execute("SELECT pg_reload_conf()")
        until_written(router, tenant)


def until_written(router, tenant):
    """Write as soon as the primary takes it again: every refusal is a clear one."""
    for _ in range(400):
        try:
            return add_agent(router, tenant)
        except ShardUnavailable:
            continue
    raise AssertionError("the primary takes no writes any more")
