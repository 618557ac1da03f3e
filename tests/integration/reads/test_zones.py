"""Readers and replicas in zones: who is near answers, and who is near may change."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from uuid import uuid4

import pytest
from fix_router import until

from tenantry import Query, Receipt, Router, Stale
from tenantry.replicas.plan import position_needed
from tenantry_ops.tenants import create
from tenantry_schema.naming import OPERATOR

pytestmark = pytest.mark.slow

ANY = Stale(seconds=60, otherwise="wait", wait=timedelta(seconds=20))


@pytest.fixture(scope="module")
def fleet(own_fleet, in_front):
    """One shard of a primary and two replicas."""
    made = own_fleet(replicas=2)
    with in_front(made):
        yield made


@pytest.fixture
def put(tenantry, fleet):
    """Put a node into a zone; return the map's version."""

    def put(node, zone):
        ended = tenantry(
            *("shard", "zone", "shard-1", node, zone, "--json", "--dir", fleet.directory)
        )
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)[0]["map_version"]

    return put


def qualify(router):
    """Say whether both replicas may answer, so that nothing but where they stand decides."""
    state = router._lookout.watch(router.map.shards[1]).state
    needed = position_needed(ANY, state, time.monotonic())
    return needed is not None and [it.position >= needed for it in state.replicas] == [True, True]


def test_an_open_reader_goes_to_the_replica_that_is_near_now(fleet, put):
    """It hears of the change at once; no poll is needed, nor a restart."""
    tenant = uuid4()
    create(fleet.catalog_conninfo(OPERATOR), "acme", str(tenant))
    labels = {it.name: f":{it.port}/" for it in fleet.shards[0].servers}
    put("shard-1-b", "here")
    put("shard-1-c", "there")

    def answered(times=8):
        """Return who answers some reads."""
        found = set()
        for _ in range(times):
            receipt = Receipt()
            router.run(one, tenant=tenant, read=ANY, receipt=receipt)
            # A pooler's entry for a node has its name.
            entry = receipt.node.rpartition("/")[2]
            found |= {it for it, label in labels.items() if label in receipt.node or it == entry}
        return found

    def one():
        yield Query("SELECT 1")

    with Router(fleet.catalog_conninfo(), zone="here", poll_interval=3600) as router:
        until(lambda: router._follower._following is not None)
        until(lambda: qualify(router))
        assert answered() == {"shard-1-b"}
        former = router.map.shards[1]
        put("shard-1-b", "there")
        version = put("shard-1-c", "here")
        until(lambda: router.map.version == version)
        assert router.map.shards[1] != former
        until(lambda: qualify(router))
        assert answered() == {"shard-1-c"}
