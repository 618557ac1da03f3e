"""When is a commit acknowledged: returned, as a COMMIT, without a warning (design, section 5a)."""

from __future__ import annotations

import asyncio
import threading

import psycopg
import pytest
from sqlalchemy import text

from tenantry import AsyncRouter, OutcomeUnknown, Router, UnknownAgent, mint_agent_id
from tenantry_schema.naming import OPERATOR

AGENT = "INSERT INTO agents (tenant_id, id, name) VALUES (%s, %s, %s)"
# A standby that does not exist: COMMIT waits until it is cancelled.
NOBODY = "ALTER SYSTEM SET synchronous_standby_names = 'nobody'"
WAITING = (
    "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND pid <> pg_backend_pid()"
)


@pytest.fixture
def hanging(laid_out, router, tenant):
    """The tenant's primary, where every COMMIT waits for a standby that never comes."""
    shard = router.map.shards[router.where(tenant=tenant).shard].name
    server = next(it for it in laid_out.shards if it.name == shard).primary
    with psycopg.connect(laid_out.superuser_conninfo(server), autocommit=True) as conn:
        conn.execute(NOBODY)
        conn.execute("SELECT pg_reload_conf()")
        until(conn, "SELECT 1 WHERE current_setting('synchronous_standby_names') = 'nobody'")
        yield conn
        conn.execute("ALTER SYSTEM RESET synchronous_standby_names")
        conn.execute("SELECT pg_reload_conf()")
        until(conn, "SELECT 1 WHERE current_setting('synchronous_standby_names') = ''")


def until(conn, query):
    """Ask until there is a row; each question waits on the server, not here."""
    for _ in range(600):
        row = conn.execute(query).fetchone()
        if row is not None:
            return row[0]
        conn.execute("SELECT pg_sleep(0.02)")
    raise AssertionError(f"never true: {query}")


def test_a_cancelled_synchronous_wait_is_no_acknowledgement(hanging, router, tenant):
    """Postgres returns from COMMIT with a warning: the caller gets an error."""
    agent = mint_agent_id(tenant)
    errors = []

    def write():
        try:
            with router.connection(tenant=tenant) as conn:
                conn.execute(AGENT, (tenant, agent, "a"))
        except OutcomeUnknown as error:
            errors.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    hanging.execute("SELECT pg_cancel_backend(%s)", (until(hanging, WAITING),))
    thread.join()
    assert "warning" in str(errors[0])
    assert errors[0].node is not None
    # It did happen, here: that is what "unknown" means.
    with router.connection(agent=agent) as conn:
        assert conn.execute("SELECT name FROM agents").fetchone() == ("a",)


@pytest.mark.parametrize("door", ["connection", "session"])
def test_a_commit_that_outlives_its_deadline_is_unknown(hanging, router, tenant, door):
    """The socket is closed, never cancelled: Postgres goes on waiting for its standby."""
    with pytest.raises(OutcomeUnknown), getattr(router, door)(tenant=tenant, deadline=0.5) as it:
        name = "x"
        if door == "connection":
            it.execute(AGENT, (tenant, mint_agent_id(tenant), name))
        else:
            it.execute(
                text("INSERT INTO agents (tenant_id, id, name) VALUES (:t, :a, :n)"),
                {"t": tenant, "a": mint_agent_id(tenant), "n": name},
            )
    hanging.execute("SELECT pg_terminate_backend(%s)", (until(hanging, WAITING),))


async def test_a_cancelled_task_does_not_cancel_its_commit(hanging, laid_out, tenant):
    """``asyncio.wait_for`` around a commit gives the error, and no cancel request is sent."""
    async with AsyncRouter(laid_out.catalog_conninfo()) as router:

        async def write():
            async with router.connection(tenant=tenant) as conn:
                await conn.execute(AGENT, (tenant, mint_agent_id(tenant), "a"))

        with pytest.raises(OutcomeUnknown):
            await asyncio.wait_for(write(), 0.5)
    pid = until(hanging, WAITING)
    hanging.execute("SELECT pg_terminate_backend(%s)", (pid,))


def test_a_refused_commit_is_not_unknown(laid_out, tenant):
    """A deferred constraint refuses at COMMIT: that is a definite answer."""
    with Router(laid_out.catalog_conninfo(OPERATOR)) as operator:
        with pytest.raises(psycopg.errors.UniqueViolation):
            with operator.connection(tenant=tenant) as conn:
                conn.execute("CREATE TEMP TABLE once (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
                conn.execute("INSERT INTO pg_temp.once VALUES (1), (1)")


def test_nothing_is_there_after_a_rollback(router, tenant):
    """The other half of the promise."""
    agent = mint_agent_id(tenant)
    with pytest.raises(ZeroDivisionError), router.connection(tenant=tenant) as conn:
        conn.execute(AGENT, (tenant, agent, "a"))
        raise ZeroDivisionError
    with pytest.raises(UnknownAgent), router.connection(agent=agent):
        pass
