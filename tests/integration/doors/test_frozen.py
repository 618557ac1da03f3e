"""Every call ends within its deadline, also when the server neither answers nor hangs up.

A session that is stopped is a half-open connection: the kernel goes on acknowledging for it, so
that neither keepalives nor a cancel request end the wait.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from uuid import UUID

import psycopg
import pytest
from fix_router import until
from reading import backend_of
from sqlalchemy import text

from tenantry import (
    AsyncRouter,
    CatalogUnavailable,
    DeadlineExceeded,
    OutcomeUnknown,
    PartialResult,
    Query,
    Router,
    mint_agent_id,
)
from tenantry_schema.query import one

DEADLINE = 0.4
#: Whose bucket is asked for what is not there.
ANYBODY = UUID(int=7)
MISSING = "SELECT * FROM no_such_table"
BUMP = "UPDATE tenantry.fleet SET map_version = map_version + 1"
AGENT = "INSERT INTO agents (tenant_id, id, name) VALUES (%s, %s, 'a')"


@contextmanager
def in_time():
    """The call does not last much longer than its deadline."""
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < DEADLINE + 2


def served_by(router, tenant):
    """Return the server's session that the next call is served by, too: of a pooler the last."""
    with router.connection(tenant=tenant) as conn:
        return backend_of(conn)


async def abackend_of(conn):
    ((pid,),) = await (await conn.execute("SELECT pg_backend_pid()")).fetchall()
    return pid


def ask(router, tenant, door):
    """Do one call through a door."""
    if door == "run":
        return router.run(lambda: one(Query("SELECT 1")), tenant=tenant, deadline=DEADLINE)
    with getattr(router, door)(tenant=tenant, deadline=DEADLINE) as it:
        return it.execute("SELECT 1" if door == "connection" else text("SELECT 1"))


@pytest.mark.parametrize("door", ["connection", "session", "run"])
def test_a_server_that_is_silent_from_the_start(narrow, tenant, freeze, door):
    """The first message is not answered."""
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
@pytest.mark.parametrize("moment", ["opening", "statement", "commit"])
async def test_the_async_door_ends_as_well(laid_out, tenant, freeze, door, moment):
    """Without blocking the loop, and without a cancel request that nobody answers."""
    one = "SELECT 1" if door == "connection" else text("SELECT 1")
    error = OutcomeUnknown if moment == "commit" else DeadlineExceeded
    async with AsyncRouter(laid_out.catalog_conninfo(), pool_size=1) as router:
        async with router.connection(tenant=tenant) as conn:
            pid = await abackend_of(conn)
        if moment == "opening":
            freeze(pid)
        with in_time(), pytest.raises(error):
            async with getattr(router, door)(tenant=tenant, deadline=DEADLINE) as it:
                await it.execute(one)
                freeze(pid)
                if moment == "statement":
                    await it.execute(one)
        async with router.connection(tenant=tenant) as conn:
            assert await abackend_of(conn) != pid


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


@pytest.fixture(params=["connecting", "asked"])
def silent(request, routable, fleet, freeze):
    """What makes a catalog silent: its server lets nobody in, or a lock is in the question's way.

    Sessions that are there go on.
    """
    with owner(routable) as conn:

        def silence():
            if request.param == "connecting":
                freeze(fleet.shards[0].primary.pid)
            else:
                conn.execute("LOCK TABLE tenantry.fleet, tenantry.agents")

        yield silence


@contextmanager
def owner(ready):
    """The owner of a catalog, in a transaction."""
    with psycopg.connect(ready.catalog) as conn:
        conn.execute("SET ROLE tenantry_owner")
        yield conn


def test_an_error_that_a_silent_catalog_does_not_explain(routable, silent, caplog):
    """Whether the bucket has moved is not known: the caller gets what Postgres said, in time."""
    with Router(routable.app) as router:
        served_by(router, ANYBODY)
        silent()
        with in_time(), pytest.raises(psycopg.errors.UndefinedTable):
            with router.connection(tenant=ANYBODY, deadline=DEADLINE) as conn:
                conn.execute(MISSING)
    assert "an error is not explained by the catalog" in caplog.text


async def test_the_async_door_does_not_wait_for_an_explanation(routable, silent):
    """As the other one."""
    async with AsyncRouter(routable.app) as router:
        async with router.connection(tenant=ANYBODY):
            pass
        silent()
        with in_time(), pytest.raises(psycopg.errors.UndefinedTable):
            async with router.connection(tenant=ANYBODY, deadline=DEADLINE) as conn:
                await conn.execute(MISSING)


@pytest.mark.slow
def test_what_asks_a_silent_catalog_ends_at_the_routers_deadline(routable, silent):
    """To open, to reload, to look into the directory."""
    with Router(routable.app, deadline=DEADLINE) as router:
        silent()
        another = Router(routable.app, deadline=DEADLINE)
        for ask in (another.open, router.reload, lambda: router.tenant_of_agent("x")):
            with in_time(), pytest.raises(CatalogUnavailable, match="answer"):
                ask()
        assert router.map.version == 1


@pytest.mark.slow
async def test_the_async_door_asks_no_longer(routable, silent):
    """As the other one."""
    async with AsyncRouter(routable.app, deadline=DEADLINE) as router:
        silent()
        another = AsyncRouter(routable.app, deadline=DEADLINE)
        for ask in (another.open, router.reload, lambda: router.tenant_of_agent("x")):
            with in_time(), pytest.raises(CatalogUnavailable, match="answer"):
                await ask()


def test_a_poll_that_is_not_answered_is_given_up(routable, freeze):
    """The map is followed again on a new connection."""
    with Router(routable.app, poll_interval=0.05, deadline=DEADLINE) as router:
        until(lambda: router._follower._following is not None)
        freeze(router._follower._following.info.backend_pid)
        with owner(routable) as conn:
            conn.execute(BUMP)
        until(lambda: router.map.version == 2)


def test_a_poll_that_is_not_answered_holds_nobody_up(routable):
    """Who waits behind it for his turn to load the map gives up at his own bound."""
    with Router(routable.app, poll_interval=0.05) as router, owner(routable) as locked:
        # What is locked is not what the poll asks first, but what it loads of a new map.
        locked.execute("LOCK TABLE tenantry.buckets")
        with owner(routable) as conn:
            conn.execute(BUMP)
        until(router._follower._reloading.locked)
        with in_time(), pytest.raises(psycopg.errors.UndefinedTable):
            with router.connection(tenant=ANYBODY, deadline=DEADLINE) as routed:
                routed.execute(MISSING)
        locked.rollback()
        until(lambda: router.map.version == 2)
