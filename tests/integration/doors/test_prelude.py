"""Routing costs no round trip: what goes over the wire, as libpq traces it."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
from psycopg.pq import Trace
from sqlalchemy import text

from tenantry import AsyncRouter, Router, mint_agent_id

ONE = "SELECT 1"


@contextmanager
def traced(conn, path):
    """Write down every message of a connection; what is given is filled in at the end."""
    told = []
    with path.open("w") as file:
        conn.pgconn.trace(file.fileno())
        conn.pgconn.set_trace_flags(Trace.SUPPRESS_TIMESTAMPS)
        yield told
        conn.pgconn.untrace()
    told.extend(line.split("\t") for line in path.read_text().splitlines())


def round_trips(told):
    """Return how often the server was ready again, and what it was asked in simple queries."""
    asked = [line[3].strip(' "') for line in told if line[0] == "F" and line[2] == "Query"]
    return sum(line[2] == "ReadyForQuery" for line in told), asked


def check(told, tenant, schema):
    """BEGIN with its routing, the statement, COMMIT: as many as without routing."""
    count, asked = round_trips(told)
    prelude = f'BEGIN; SET LOCAL search_path = "{schema}", "shared"; SET LOCAL '
    assert count == 3
    assert asked[0].startswith(prelude)
    assert asked[0].endswith(f"'{tenant}'")
    assert asked[-1] == "COMMIT"


@pytest.mark.parametrize("door", ["connection", "session"])
def test_one_message_opens_a_transaction(laid_out, tenant, tmp_path, door):
    """Through either kind of call, on the one connection of the pool."""
    with Router(laid_out.catalog_conninfo(), pool_size=1) as router:
        schema = router.where(tenant=tenant).schema
        # SQLAlchemy asks the first server of an engine what it is.
        with router.session(tenant=tenant) as session:
            session.connection()
        with router.connection(tenant=tenant) as conn:
            pass
        with traced(conn, tmp_path / "trace") as told:
            with getattr(router, door)(tenant=tenant) as it:
                it.execute(ONE if door == "connection" else text(ONE))
    check(told, tenant, schema)


@pytest.mark.parametrize("door", ["connection", "session"])
async def test_one_message_opens_an_async_transaction(laid_out, tenant, tmp_path, door):
    """The same bytes."""
    async with AsyncRouter(laid_out.catalog_conninfo(), pool_size=1) as router:
        schema = router.where(tenant=tenant).schema
        async with router.session(tenant=tenant) as session:
            await session.connection()
        async with router.connection(tenant=tenant) as conn:
            pass
        with traced(conn, tmp_path / "trace") as told:
            async with getattr(router, door)(tenant=tenant) as it:
                await it.execute(ONE if door == "connection" else text(ONE))
    check(told, tenant, schema)


def test_an_agents_tenant_is_found_in_the_same_message(laid_out, tenant, tmp_path):
    """The first call by an id costs no round trip either, and later ones know the tenant."""
    agent = mint_agent_id(tenant)
    with Router(laid_out.catalog_conninfo(), pool_size=1) as router:
        with router.connection(tenant=tenant) as conn:
            conn.execute(
                "INSERT INTO agents (tenant_id, id, name) VALUES (%s, %s, 'a')", (tenant, agent)
            )
        asked = []
        for _ in range(2):
            with traced(conn, tmp_path / "trace") as told, router.connection(agent=agent) as it:
                it.execute(ONE)
            count, queries = round_trips(told)
            assert count == 3
            asked.append(queries[0])
    assert "SELECT set_config" in asked[0]
    assert asked[1].endswith(f"'{tenant}'")
