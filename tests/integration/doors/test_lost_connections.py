"""A pool of two outlives any number of connections that their server ended: in either door."""

from __future__ import annotations

import psycopg
import pytest
from sqlalchemy import text

from tenantry import AsyncRouter, OutcomeUnknown, Router, ShardUnavailable

POOL = 2
# The server ends whoever asks for it, and waits until that is done.
PID = text("SELECT pg_backend_pid()")


@pytest.fixture
def end(laid_out, router, tenant):
    """Ends a connection of the tenant's shard by its process id."""
    shard = router.map.shards[router.where(tenant=tenant).shard].name
    server = next(it for it in laid_out.shards if it.name == shard).primary
    with psycopg.connect(laid_out.superuser_conninfo(server), autocommit=True) as killer:
        yield lambda pid: killer.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))


@pytest.mark.parametrize("within", ["a statement", "COMMIT"])
def test_a_session_gives_its_place_back(laid_out, tenant, end, within):
    """More sessions are cut off than the pool has places; the next one is served."""
    with Router(laid_out.catalog_conninfo(), pool_size=POOL, acquire_timeout=2) as router:
        for _ in range(2 * POOL):
            with (
                pytest.raises((ShardUnavailable, OutcomeUnknown)),
                router.session(tenant=tenant) as session,
            ):
                end(session.scalar(PID))
                if within == "a statement":
                    session.scalar(PID)
        with router.session(tenant=tenant) as session, router.session(tenant=tenant) as other:
            assert session.scalar(PID) != other.scalar(PID)


@pytest.mark.parametrize("within", ["a statement", "COMMIT"])
async def test_an_async_session_gives_its_place_back(laid_out, tenant, end, within):
    """The same for the async door."""
    catalog = laid_out.catalog_conninfo()
    async with AsyncRouter(catalog, pool_size=POOL, acquire_timeout=2) as router:
        for _ in range(2 * POOL):
            with pytest.raises((ShardUnavailable, OutcomeUnknown)):
                async with router.session(tenant=tenant) as session:
                    end(await session.scalar(PID))
                    if within == "a statement":
                        await session.scalar(PID)
        async with router.session(tenant=tenant) as session:
            async with router.session(tenant=tenant) as other:
                assert await session.scalar(PID) != await other.scalar(PID)
