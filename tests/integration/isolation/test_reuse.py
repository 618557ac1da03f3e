"""What a tenant leaves in a session of the pool does not reach the tenant who has it next."""

from __future__ import annotations

import psycopg
import pytest
from sqlalchemy import text

from tenantry import AsyncRouter, Router, mint_agent_id

AGENT = "INSERT INTO agents (tenant_id, id, name) VALUES (%s, %s, %s)"
#: Each would outlive its transaction in the session that it was said in.
LEFT = [
    "SELECT set_config('tenantry.tenant', '{other}', false)",
    "SELECT set_config('tenantry.agent', '{agent}', false)",
    "SET tenantry.tenant = '{other}'",
    "SET tenantry.agent = '{agent}'",
    "SET search_path = {schema}",
    "SET row_security = off",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    "PREPARE every AS SELECT * FROM agents",
    "LISTEN everything",
    "DECLARE every CURSOR WITH HOLD FOR SELECT * FROM agents",
    "SELECT 1; DECLARE every CURSOR WITH HOLD FOR SELECT * FROM agents; SELECT 2",
]
READ = "SELECT tenant_id FROM agents"


@pytest.fixture
def pair(narrow, tenant, laid_out):
    """Two tenants of one shard, each with an agent; the second one's agent and schema."""
    from fix_router import make_tenant

    home = narrow.where(tenant=tenant).shard
    other = make_tenant(laid_out)
    while narrow.where(tenant=other).shard != home:
        other = make_tenant(laid_out)
    agents = {}
    for key in (tenant, other):
        agents[key] = mint_agent_id(key)
        with narrow.connection(tenant=key) as conn:
            conn.execute(AGENT, (key, agents[key], "a"))
    schema = narrow.where(tenant=other).schema
    return tenant, other, {"other": other, "agent": agents[other], "schema": schema}


def session_of(conn):
    return conn.execute("SELECT pg_backend_pid()").fetchone()[0]


@pytest.mark.parametrize("left", LEFT)
def test_nothing_that_was_left_opens_another_tenant(narrow, pair, left):
    """The same session of the server, the other tenant left something in it."""
    mine, other, names = pair
    with narrow.connection(tenant=other) as conn:
        conn.execute(left.format(**names))
        before = session_of(conn)
    with narrow.connection(tenant=mine) as conn:
        assert session_of(conn) == before
        assert conn.execute(READ).fetchall() == [(mine,)]
        conn.execute(AGENT, (mine, mint_agent_id(mine), "b"))
        for ask in ("FETCH ALL FROM every", "EXECUTE every"):
            conn.execute("SAVEPOINT here")
            try:
                rows = conn.execute(ask).fetchall()
            except (psycopg.errors.InvalidCursorName, psycopg.errors.InvalidSqlStatementName):
                conn.execute("ROLLBACK TO here")
            else:
                assert {row[0] for row in rows} == {mine}
    with narrow.session(tenant=mine) as session:
        assert set(session.execute(text(READ)).all()) == {(mine,)}


def test_an_agent_is_found_whatever_tenant_was_left(narrow, pair, laid_out):
    """A first call by an agent's id finds that agent's tenant, not the one that was left."""
    mine, other, names = pair
    with Router(laid_out.catalog_conninfo(), pool_size=1) as fresh:
        with fresh.connection(tenant=mine) as conn:
            conn.execute("SELECT set_config('tenantry.tenant', %s, false)", (str(mine),))
        with fresh.connection(agent=names["agent"]) as conn:
            assert conn.execute(READ).fetchall() == [(other,)]


def test_named_cursors_do_not_outlive_their_call(narrow, pair):
    """Also those of the driver, also when they are held."""
    mine, other, _ = pair
    with narrow.connection(tenant=other) as conn:
        cursor = conn.cursor("every", withhold=True)
        cursor.execute(READ)
        before = session_of(conn)
    with narrow.connection(tenant=mine) as conn:
        assert session_of(conn) == before
        with pytest.raises(psycopg.errors.InvalidCursorName):
            conn.execute("FETCH ALL FROM every")
        conn.rollback()
    cursor._closed = True


async def test_the_async_door_leaves_nothing_either(laid_out, pair):
    """Held cursors and settings of the one tenant, the rows of the other."""
    mine, other, names = pair
    async with AsyncRouter(laid_out.catalog_conninfo(), pool_size=1) as router:
        async with router.connection(tenant=other) as conn:
            cursor = conn.cursor("every", withhold=True)
            await cursor.execute(READ)
            await conn.execute("SET tenantry.agent = '{agent}'".format(**names))
        async with router.connection(tenant=mine) as conn:
            assert await (await conn.execute(READ)).fetchall() == [(mine,)]
            with pytest.raises(psycopg.errors.InvalidCursorName):
                await conn.execute("FETCH ALL FROM every")
            await conn.rollback()
        cursor._closed = True
