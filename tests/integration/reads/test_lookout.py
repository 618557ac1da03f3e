"""Routers of one process look through one sampler: a node is asked once, whoever wants to know."""

from __future__ import annotations

from dataclasses import replace

import psycopg
import pytest
from fix_router import awaited, until
from reading import LENIENT, count, shard_of

from tenantry import Receipt, Router, RouterClosed, Stale

SAMPLERS = """
SELECT count(*) FROM pg_stat_activity
WHERE application_name = 'tenantry-sampler' AND datname = 'tenantry'
"""
#: Nobody else in this process asks so often.
OFTEN = 0.123


@pytest.fixture
def samplers(laid_out, router, tenant):
    """Count the connections of samplers to the primary of the tenant's shard."""
    shard = shard_of(laid_out, router, tenant)
    with psycopg.connect(laid_out.superuser_conninfo(shard.primary), autocommit=True) as conn:
        before = conn.execute(SAMPLERS).fetchone()[0]
        yield lambda: conn.execute(SAMPLERS).fetchone()[0] - before


def read(door, tenant, policy=LENIENT):
    receipt = Receipt()
    door.run(lambda: count(tenant), tenant=tenant, read=policy, receipt=receipt)
    return receipt.role


def test_a_node_is_asked_once_for_all_routers(laid_out, tenant, samplers):
    """Of both colours; the last to close ends it, and it may begin again."""
    catalog = laid_out.catalog_conninfo()
    for _ in range(2):
        first = Router(catalog, sample_interval=OFTEN).open()
        assert read(first, tenant) == "replica"
        assert samplers() == 1
        with awaited(catalog, sample_interval=OFTEN) as second:
            assert read(second, tenant) == "replica"
            assert samplers() == 1
            first.close()
            assert read(second, tenant) == "replica"
            assert samplers() == 1
        until(lambda: samplers() == 0)


def test_routers_may_know_a_shard_by_different_maps(laid_out, tenant, samplers):
    """Each watches what its own map says."""
    catalog = laid_out.catalog_conninfo()
    with Router(catalog, sample_interval=OFTEN) as one:
        assert read(one, tenant) == "replica"
        with Router(catalog, sample_interval=OFTEN) as other:
            mine = other.map.shards[other.where(tenant=tenant).shard]
            primary = one._lookout.watch(mine).state.primary
            other.map.shards[mine.id] = replace(mine, nodes=(primary,))
            assert read(other, tenant, Stale(seconds=60)) == "primary"
            assert samplers() == 2
            assert read(one, tenant) == "replica"
        until(lambda: samplers() == 1)
        assert read(one, tenant) == "replica"


def test_no_pool_outlives_its_watch(laid_out, tenant):
    """A call of a former map may have another description of the shard watched, for a moment."""
    with Router(laid_out.catalog_conninfo()) as router:
        assert read(router, tenant) == "replica"
        shard = router.map.shards[router.where(tenant=tenant).shard]
        former = router._lookout.watch(shard)
        router._lookout.watch(replace(shard, durability="two-nodes"))
        assert former.closed
        assert read(router, tenant) == "replica"
        router.run(lambda: count(tenant), tenant=tenant)
        for node in (None, *shard.nodes[1:]):
            watch = router._pools.find(shard, node).place.watch
            assert watch is router._lookout.watch(shard)
            assert not watch.closed


def test_a_call_that_is_late_opens_no_pool(laid_out, tenant):
    """Nobody would close it."""
    router = Router(laid_out.catalog_conninfo()).open()
    late = router.connection(tenant=tenant)
    router.close()
    with pytest.raises(RouterClosed), late:
        pass
    with router:
        assert read(router, tenant) == "replica"
