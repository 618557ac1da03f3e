"""Every call ends within its deadline, also when the server neither answers nor hangs up.

A session that is stopped is a half-open connection: the kernel goes on acknowledging for it, so
that neither keepalives nor a cancel request end the wait.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import contextmanager

import pytest
from sqlalchemy import text

from tenantry import (
    AsyncRouter,
    DeadlineExceeded,
    OutcomeUnknown,
    PartialResult,
    Query,
    Router,
    mint_agent_id,
)
from tenantry_schema.query import one

pytestmark = pytest.mark.direct

DEADLINE = 0.4
AGENT = "INSERT INTO agents (tenant_id, id, name) VALUES (%s, %s, 'a')"


@contextmanager
def in_time():
    """The call does not last much longer than its deadline."""
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < DEADLINE + 2


@pytest.fixture
def freeze():
    """Stop sessions of the server; let them go on afterwards, to find that nobody listens."""
    stopped = []

    def stop(pid):
        os.kill(pid, signal.SIGSTOP)
        stopped.append(pid)

    yield stop
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)


@pytest.fixture
def narrow(laid_out):
    """A router with one connection to each node."""
    with Router(laid_out.catalog_conninfo(), pool_size=1) as router:
        yield router


def served_by(router, tenant):
    """Return the server's session that the next call is served by, too."""
    with router.connection(tenant=tenant) as conn:
        return conn.info.backend_pid


def ask(router, tenant, door):
    """Do one call through a door."""
    if door == "run":
        return router.run(lambda: one(Query("SELECT 1")), tenant=tenant, deadline=DEADLINE)
    with getattr(router, door)(tenant=tenant, deadline=DEADLINE) as it:
        return it.execute("SELECT 1" if door == "connection" else text("SELECT 1"))


@pytest.mark.parametrize("door", ["connection", "session", "run"])
def test_a_server_that_is_silent_from_the_start(narrow, tenant, freeze, door):
    """The prelude is not answered."""
    freeze(served_by(narrow, tenant))
    with in_time(), pytest.raises(DeadlineExceeded, match="nothing was committed"):
        ask(narrow, tenant, door)
    assert ask(narrow, tenant, "connection").fetchone() == (1,)


@pytest.mark.parametrize("door", ["connection", "session"])
def test_a_server_that_falls_silent(narrow, tenant, freeze, door):
    """A statement is not answered; the pool has a new connection for the next call."""
    pid = served_by(narrow, tenant)
    one = "SELECT 1" if door == "connection" else text("SELECT 1")
    with in_time(), pytest.raises(DeadlineExceeded, match="nothing was committed"):
        with getattr(narrow, door)(tenant=tenant, deadline=DEADLINE) as it:
            it.execute(one)
            freeze(pid)
            it.execute(one)
    assert served_by(narrow, tenant) != pid


def test_a_commit_that_is_not_answered_is_unknown(narrow, tenant, freeze):
    """It may have happened, and the error carries what is needed to find out."""
    pid = served_by(narrow, tenant)
    with in_time(), pytest.raises(OutcomeUnknown) as caught:
        with narrow.connection(tenant=tenant, deadline=DEADLINE) as conn:
            conn.execute(AGENT, (tenant, mint_agent_id(tenant)))
            freeze(pid)
    assert caught.value.node is not None
    assert caught.value.tenant == str(tenant)


@pytest.mark.parametrize("door", ["connection", "session"])
@pytest.mark.parametrize("moment", ["prelude", "statement", "commit"])
async def test_the_async_door_ends_as_well(laid_out, tenant, freeze, door, moment):
    """Without blocking the loop, and without a cancel request that nobody answers."""
    one = "SELECT 1" if door == "connection" else text("SELECT 1")
    error = OutcomeUnknown if moment == "commit" else DeadlineExceeded
    async with AsyncRouter(laid_out.catalog_conninfo(), pool_size=1) as router:
        async with router.connection(tenant=tenant) as conn:
            pid = conn.info.backend_pid
        if moment == "prelude":
            freeze(pid)
        with in_time(), pytest.raises(error):
            async with getattr(router, door)(tenant=tenant, deadline=DEADLINE) as it:
                await it.execute(one)
                freeze(pid)
                if moment == "statement":
                    await it.execute(one)
        async with router.connection(tenant=tenant) as conn:
            assert conn.info.backend_pid != pid


def test_a_scatter_ends_at_its_deadline(router):
    """Who has not answered by then is named; who has is there, if that is accepted."""
    slow = Query("SELECT pg_sleep(CASE shard_id WHEN 1 THEN 0 ELSE 30 END) FROM tenantry.shard")
    with in_time(), pytest.raises(PartialResult, match=r"1 of 2 shards .*shard-2"):
        router.scatter(slow, deadline=DEADLINE)
    with in_time():
        some = router.scatter(slow, deadline=DEADLINE, partial="accept")
    assert (list(some.rows), list(some.failed)) == (["shard-1"], ["shard-2"])


async def test_an_async_scatter_ends_at_its_deadline(laid_out):
    """As the other one."""
    slow = Query("SELECT pg_sleep(CASE shard_id WHEN 1 THEN 0 ELSE 30 END) FROM tenantry.shard")
    async with AsyncRouter(laid_out.catalog_conninfo()) as router:
        with in_time():
            some = await router.scatter(slow, deadline=DEADLINE, partial="accept")
    assert (list(some.rows), list(some.failed)) == (["shard-1"], ["shard-2"])
