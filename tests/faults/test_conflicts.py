"""A replica that ends a read: it is read again on the other one, and on the primary after both."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from uuid import uuid4

import psycopg
import pytest
from fix_fleet import passing_fleet

from tenantry import Query, Receipt, Stale
from tenantry.replicas.news import wait_for_news
from tenantry_ops.initialise import embedded_plan, initialise
from tenantry_ops.tenants import create
from tenantry_schema.naming import OPERATOR, SHARD_DATABASE

pytestmark = pytest.mark.slow

WHO = "SELECT current_setting('port')::int, pg_backend_pid()"
CANCEL = """
SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE pid = %s AND wait_event = 'PgSleep'
"""


@pytest.fixture(scope="module")
def fleet(pytestconfig, in_front):
    """One shard of a primary and two replicas, with a tenant."""
    with passing_fleet(pytestconfig, shards=1, replicas=2) as made:
        initialise(embedded_plan(made, buckets=2))
        with in_front(made):
            yield made


@pytest.fixture
def tenant(fleet):
    key = uuid4()
    create(fleet.catalog_conninfo(OPERATOR), f"t-{key.hex[:20]}", str(key))
    return key


@pytest.fixture
def reading(fleet, opened):
    """A router of either colour that may use both replicas."""
    with opened(fleet.catalog_conninfo()) as router:
        (shard,) = router.map.shards.values()
        watch = router._lookout.watch(shard)
        for _ in range(300):
            bounds = watch.summary(time.monotonic())["replicas"]
            if len(bounds) == 2 and None not in bounds.values():
                break
            wait_for_news(watch, 0.1)
        yield router


@pytest.fixture
def cancel(fleet):
    """Cancel what a backend of a replica does, as soon as it sleeps, as a superuser there."""
    with ExitStack() as open_, ThreadPoolExecutor() as pool:
        conns = {
            it.port: open_.enter_context(
                psycopg.connect(fleet.superuser_conninfo(it, SHARD_DATABASE), autocommit=True)
            )
            for it in fleet.shards[0].replicas
        }

        def wait_and_cancel(port, pid):
            # Not for ever: what went to the primary is not to be seen on a replica.
            for _ in range(1000):
                if conns[port].execute(CANCEL, (pid,)).fetchone() is not None:
                    return
                conns[port].execute("SELECT pg_sleep(0.01)")

        yield lambda port, pid: pool.submit(wait_and_cancel, port, pid)


@pytest.mark.parametrize("times", [1, 2])
def test_a_cancelled_read_is_read_elsewhere(fleet, reading, tenant, cancel, times):
    """Never again where it was ended, though that replica is as fresh as before."""
    served = []

    def work():
        ((port, pid),) = yield Query(WHO)
        served.append(port)
        if len(served) <= times:
            cancelling = cancel(port, pid)
            try:
                yield Query("SELECT pg_sleep(20)")
            finally:
                cancelling.result()
        return port

    receipt = Receipt()
    answered = reading.run(work, tenant=tenant, read=Stale(seconds=60), receipt=receipt)
    replicas = {it.port for it in fleet.shards[0].replicas}
    assert set(served[:2]) == replicas
    assert len(served) == times + 1
    assert answered == served[-1]
    assert (receipt.role, receipt.fallback) == (("replica", False), ("primary", True))[times - 1]
    assert reading.stats()["reads"]["stale"]["interrupted"] == times
