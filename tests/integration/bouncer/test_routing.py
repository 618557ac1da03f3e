"""The router behind a real PgBouncer in transaction mode: nothing leaks, nothing breaks."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from fix_bouncer import patiently_connected, rewrite
from fix_router import make_tenant
from psycopg import capabilities

from tenantry import AsyncRouter, Router
from tenantry.errors import InvalidConfig
from tenantry.map import Node
from tenantry_ops.bouncer.versions import KEEPS_PREPARED
from tenantry_schema.naming import APP

SEEN = "SELECT count(*) FROM tenants"
HERE = """
SELECT current_setting('search_path'), current_setting('tenantry.tenant', true), pg_backend_pid()
"""
READ = "SELECT tenant_id FROM tenants WHERE tenant_id = %s"
PREPARED = "SELECT name FROM pg_prepared_statements WHERE statement LIKE %s"


@pytest.fixture(scope="module")
def pooled(laid_out, pooler):
    """A router with more connections than PgBouncer gives it servers."""
    with Router(laid_out.catalog_conninfo(), pooler=pooler, pool_size=12) as router:
        yield router


@pytest.fixture
def one_server(bouncer):
    """Let PgBouncer serve everybody by one connection to each server."""
    with bouncer.pooler.open() as console:
        sizes = {row["name"]: row["pool_size"] for row in console.show("DATABASES")}
        assert sizes["shard-1"] > 1
    text = (bouncer.directory / "pgbouncer.ini").read_text()
    squeezed = text
    for size in set(sizes.values()):
        squeezed = squeezed.replace(f"pool_size={size} ", "pool_size=1 ")
    rewrite(bouncer, squeezed)
    yield
    rewrite(bouncer, text)


def test_a_pooler_is_seen(pooled, laid_out, bouncer, tenant):
    """By every connection; statements are prepared only where PgBouncer keeps them."""
    with bouncer.pooler.open() as console:
        keeps = console.version >= KEEPS_PREPARED
    with pooled.connection(tenant=tenant) as conn:
        assert conn.pooled
        assert (conn.prepare_threshold is not None) is keeps
    with Router(laid_out.catalog_conninfo()) as direct:
        with direct.connection(tenant=tenant) as conn:
            # Unless the whole suite goes through it.
            assert conn.pooled is (direct.settings.pooler is not None)


@pytest.fixture(params=[True, False], ids=["libpq 17", "libpq 16"])
def can_close(request, monkeypatch):
    """Whether libpq can give up a prepared statement by a message."""
    monkeypatch.setattr(capabilities, "has_send_close_prepared", lambda: request.param)
    return request.param


@pytest.mark.usefixtures("one_server")
def test_statements_stay_prepared_where_pgbouncer_keeps_them(
    can_close, pooler, bouncer, laid_out, tenant
):
    """Seen at the server, under PgBouncer's own names; never where nobody could give them up."""
    with bouncer.pooler.open() as console:
        keeps = console.version >= KEEPS_PREPARED
    with Router(laid_out.catalog_conninfo(), pooler=pooler, pool_size=1) as router:
        for _ in range(10):
            with router.connection(tenant=tenant) as conn:
                assert conn.execute(READ, (tenant,)).fetchall() == [(tenant,)]
        with router.connection(tenant=tenant) as conn:
            names = [
                name for (name,) in conn.execute(PREPARED, ("SELECT tenant_id FROM tenants%",))
            ]
    assert bool(names) is (keeps and can_close)
    assert all(it.startswith("PGBOUNCER_") for it in names)


def test_a_pooler_is_seen_where_the_catalog_names_it(bouncer, laid_out, tenant):
    """Nothing says that a node is a PgBouncer; its answers do."""
    with Router(laid_out.catalog_conninfo()) as router:
        shard = router.map.shards[router.where(tenant=tenant).shard]
        node = Node(shard.name, laid_out.state.sockets, bouncer.pooler.port, shard.name)
        router.map.shards[shard.id] = replace(shard, nodes=(node,))
        with router.connection(tenant=tenant) as conn:
            assert conn.pooled
            assert conn.execute(READ, (tenant,)).fetchall() == [(tenant,)]


def test_nothing_leaks_between_tenants(pooled, laid_out, one_server):
    """50 tenants in turn over one server connection: each sees its own row, and no other's."""
    tenants = [make_tenant(laid_out) for _ in range(50)]
    pids = set()

    def look(number):
        tenant = tenants[number % len(tenants)]
        with pooled.connection(tenant=tenant) as conn:
            assert conn.execute(READ, (tenant,)).fetchall() == [(tenant,)]
            assert conn.execute(SEEN).fetchone() == (1,)
            path, key, pid = conn.execute(HERE).fetchone()
            assert key == str(tenant)
            assert path.replace('"', "").startswith(f"{pooled.where(tenant=tenant).schema},")
            pids.add((pooled.where(tenant=tenant).shard, pid))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(look, range(400)))
    assert len(pids) == 2


def test_nothing_is_left_on_the_server_connection(pooled, bouncer, laid_out, tenant, one_server):
    """What comes next over the same connection finds no tenant, no path, no prepared statement."""
    shard = pooled.map.shards[pooled.where(tenant=tenant).shard].name
    for _ in range(20):
        with pooled.connection(tenant=tenant) as conn:
            conn.execute(READ, (tenant,))
            (_, _, pid) = conn.execute(HERE).fetchone()
    with pytest.raises(ZeroDivisionError), pooled.connection(tenant=tenant) as conn:
        raise ZeroDivisionError
    conninfo = laid_out.conninfo(laid_out.shards[0].primary, user=APP, dbname=shard)
    with patiently_connected(conninfo, bouncer) as other:
        path, key, same = other.execute(HERE).fetchone()
        names = other.execute("SELECT name FROM pg_prepared_statements").fetchall()
    assert (path, key, same) == ('""', "", pid)
    assert not [it for (it,) in names if not it.startswith("PGBOUNCER_")]


def test_rollbacks_and_prepared_statements(pooled, laid_out, one_server):
    """psycopg gives up what it has prepared at a rollback, and prepares it anew."""
    tenants = [make_tenant(laid_out) for _ in range(6)]
    with Router(laid_out.catalog_conninfo(), pooler=pooled.settings.pooler, pool_size=2) as router:
        for turn in range(120):
            tenant = tenants[turn % len(tenants)]
            with router.connection(tenant=tenant) as conn:
                assert conn.execute(READ, (tenant,)).fetchone() == (tenant,)
                if turn % 7 == 0:
                    conn.rollback()


async def test_the_async_door(laid_out, pooler, one_server):
    """The same, with many at once."""
    tenants = [make_tenant(laid_out) for _ in range(10)]
    async with AsyncRouter(laid_out.catalog_conninfo(), pooler=pooler, pool_size=6) as router:

        async def look(tenant):
            async with router.connection(tenant=tenant) as conn:
                assert conn.pooled
                found = await (await conn.execute(READ, (tenant,))).fetchall()
                assert found == [(tenant,)]

        for _ in range(5):
            await asyncio.gather(*map(look, tenants))


@pytest.mark.parametrize(
    "given",
    ["host=x dbname=y", "host=x options=-cx=1", "host=x password=secret-word", "host=x bad", ""],
)
def test_poolers_that_cannot_be(laid_out, given):
    """What the router decides itself, what PgBouncer drops, what libpq cannot read."""
    with pytest.raises(InvalidConfig, match=r"pooler|options=") as caught:
        Router(laid_out.catalog_conninfo(), pooler=given)
    assert "secret-word" not in str(caught.value)


def test_settings_that_pgbouncer_would_drop_are_refused(laid_out, pooler):
    """``options`` of the catalog's own conninfo."""
    with pytest.raises(InvalidConfig, match="options="):
        Router(f"{laid_out.catalog_conninfo()} options=-cstatement_timeout=1", pooler=pooler)
