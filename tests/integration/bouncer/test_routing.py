"""The router behind a real PgBouncer in transaction mode: nothing leaks, nothing breaks."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from uuid import uuid4

import psycopg
import pytest
from fix_bouncer import lead
from fix_router import make_tenant
from psycopg import capabilities
from reading import NEWEST

from tenantry import AsyncRouter, Query, Router, mint_agent_id
from tenantry.errors import InvalidConfig, ShardUnavailable, Unavailable
from tenantry.map import Node
from tenantry_ops.bouncer.versions import KEEPS_PREPARED
from tenantry_schema.naming import APP, SHARD_DATABASE
from tenantry_schema.query import one

SEEN = "SELECT count(*) FROM tenants"
HERE = """
SELECT current_setting('search_path'), current_setting('tenantry.tenant', true), pg_backend_pid()
"""
READ = "SELECT tenant_id FROM tenants WHERE tenant_id = %s"
AGENT = "INSERT INTO agents (tenant_id, id, name) VALUES (%s, %s, 'a')"
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
    write(bouncer, squeezed)
    yield
    write(bouncer, text)


def write(bouncer, text):
    (bouncer.directory / "pgbouncer.ini").write_text(text)
    with bouncer.pooler.open() as console:
        console.reload()
        console._run("RECONNECT")


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


def patiently_connected(conninfo, bouncer):
    """Connect through it; it refuses while a server connection that RECONNECT cut short is away."""
    end, options = time.monotonic() + 30, {"autocommit": True, "prepare_threshold": None}
    while True:
        try:
            return psycopg.connect(conninfo, port=bouncer.pooler.port, **options)
        except psycopg.OperationalError as error:
            if "server_login_retry" not in str(error) or time.monotonic() > end:
                raise


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


def written(tenant, agent):
    return lambda: one(Query(AGENT, (tenant, agent)))


def written_at_last(tenant, agent):
    return lambda: one(Query(AGENT, (tenant, agent), last=True))


def written_serializably(tenant, agent):
    def work():
        yield Query("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
        yield Query(AGENT, (tenant, agent))

    return work


WRITES = [{}, {"operation": "once"}, {"token": True}]
ASKED = [
    *product([written, written_at_last], [*WRITES, {"read": NEWEST}]),
    *product([written_serializably], WRITES),
]


@pytest.mark.parametrize("seen", ["by the connection", "by another"])
def test_an_entry_that_leads_to_a_deposed_primary_is_refused(
    laid_out, pooler, opened, tenant, seen
):
    """Also when it was led there after the connection was made: each transaction asks."""
    agent = mint_agent_id(tenant)
    with opened(laid_out.catalog_conninfo(), pooler=pooler, pool_size=1, attempts=1) as router:
        router.run(written(tenant, mint_agent_id(tenant)), tenant=tenant)
        serving = router._pools.find(router.map.shards[router.where(tenant=tenant).shard], None)
        (conn,) = serving._pool._pool
        before = conn.timeline
        assert serving.place.reached == before
        # As if one who was asked had been on a later timeline.
        if seen == "by another":
            serving.place.reached += 1
        else:
            conn.timeline += 1
        for work, options in (it for it in ASKED for _ in range(8)):
            with pytest.raises(ShardUnavailable, match="deposed"):
                router.run(work(tenant, agent), tenant=tenant, **options)
        serving.place.reached = conn.timeline = before
        gone = Query("SELECT name FROM agents WHERE tenant_id = %s AND id = %s", (tenant, agent))
        assert router.run(lambda: one(gone), tenant=tenant) is None


@pytest.mark.slow
def test_an_entry_refuses_a_server_that_became_a_replica(bouncer, laid_out, pooled, tenant):
    """The shard's entry, led to a replica by mistake, answers nothing rather than stale rows."""
    replica = laid_out.shards[0].replicas[0]
    text = (bouncer.directory / "pgbouncer.ini").read_text()
    primary = laid_out.shards[0].primary
    line = next(it for it in text.splitlines() if it.startswith("shard-1 "))
    wrong = line.replace(f"port={primary.port}", f"port={replica.port}")
    assert wrong != line
    write(bouncer, text.replace(line, wrong))
    try:
        conninfo = laid_out.conninfo(primary, user=APP, dbname="shard-1-b")
        with patiently_connected(conninfo, bouncer) as conn:
            # By its own name the replica answers.
            assert conn.execute("SELECT pg_is_in_recovery()").fetchone() == (True,)
        with Router(
            laid_out.catalog_conninfo(), pooler=pooled.settings.pooler, acquire_timeout=1
        ) as router:
            home = next(it for it in iter(lambda: make_tenant(laid_out), None) if at(router, it))
            with pytest.raises(Unavailable):
                with router.session(tenant=home, deadline=1.5) as session:
                    session.connection()
    finally:
        write(bouncer, text)
    assert SHARD_DATABASE in line


@pytest.mark.slow
def test_an_entry_that_leads_to_another_shard_is_refused(bouncer, laid_out, pooler, tenant):
    """Who answers says whose it is, and nothing is asked there."""
    primaries = {it.name: it.primary for it in laid_out.shards}
    with Router(laid_out.catalog_conninfo(), pooler=pooler, acquire_timeout=1) as router:
        mine = router.map.shards[router.where(tenant=tenant).shard]
        (other,) = primaries.keys() - {mine.name}
        lead(bouncer, mine.name, primaries[other])
        try:
            with pytest.raises(ShardUnavailable, match=f"not of {mine.home}"):
                with router.connection(tenant=tenant):
                    pass
        finally:
            lead(bouncer, mine.name, primaries[mine.name])
    # PgBouncer holds back from a server that refused the other one's password.
    with Router(laid_out.catalog_conninfo(), pooler=pooler, acquire_timeout=20) as router:
        with router.connection(tenant=tenant) as conn:
            assert conn.execute(READ, (tenant,)).fetchall() == [(tenant,)]


def at(router, tenant):
    return router.map.shards[router.where(tenant=tenant).shard].name == "shard-1"


@pytest.mark.slow
@pytest.mark.parametrize("door", ["sync", "async"])
async def test_a_silent_session_of_a_deposed_primary(laid_out, tenant, pooler, freeze, door):
    """Before a call is served, a session is asked where it leads by now: not for ever."""
    # So long after its beginning the sampler would say what is so.
    options = {"pooler": pooler, "pool_size": 1, "sample_interval": 60}
    refused = pytest.raises(ShardUnavailable, match="no connection to the primary")
    if door == "sync":
        with Router(laid_out.catalog_conninfo(), **options) as router:
            with router.connection(tenant=tenant) as conn:
                (_, _, pid) = conn.execute(HERE).fetchone()
            freeze(pid)
            depose(conn)
            with in_time(), refused, router.connection(tenant=tenant, deadline=0.4):
                pass
    else:
        async with AsyncRouter(laid_out.catalog_conninfo(), **options) as router:
            async with router.connection(tenant=tenant) as conn:
                (_, _, pid) = await (await conn.execute(HERE)).fetchone()
            freeze(pid)
            depose(conn)
            with in_time(), refused:
                async with router.connection(tenant=tenant, deadline=0.4):
                    pass


def depose(conn):
    """Let a router believe that the shard has gone on to another timeline."""
    watch = conn.place.watch
    watch.publish(replace(watch.state, timeline=conn.timeline + 1))


@contextmanager
def in_time():
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < 2


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


def test_who_may_not_come_through(bouncer, laid_out):
    """Superusers, replication, wrong passwords, unknown entries."""
    primary = laid_out.shards[0].primary
    for user, dbname in (
        ("postgres", "shard-1"),
        ("tenantry_replication", "shard-1"),
        (APP, "pgbouncer"),
        (APP, f"nowhere-{uuid4().hex[:6]}"),
    ):
        conninfo = laid_out.conninfo(primary, user=user, dbname=dbname)
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(conninfo, port=bouncer.pooler.port, connect_timeout=5)
