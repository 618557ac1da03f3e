"""Catalogs that name shards that are not there, or no map at all: each is a named error."""

from __future__ import annotations

import socket
from dataclasses import replace
from uuid import uuid4

import psycopg
import pytest
from fix_bouncer import lead
from fix_router import until

from tenantry import AsyncRouter, CatalogUnavailable, PartialResult, Query, Router, ShardUnavailable
from tenantry.errors import InvalidConfig, MigrationFailed, UnknownShard
from tenantry.keys import POSITIONS, position
from tenantry.map import Node
from tenantry_ops.doctor import examine, gather_facts
from tenantry_ops.migrate import migrate
from tenantry_ops.structure import schema_diff
from tenantry_ops.tenants import create
from tenantry_schema.query import one

ONE = Query("SELECT 1")
NOBODY = Node("nobody", "127.0.0.1", 1, "nothing")
#: The second shard, and with it the second of two buckets, ...
AWAY = {
    "is not described": (
        "ALTER TABLE tenantry.buckets DROP CONSTRAINT buckets_shard_id_fkey; "
        "DELETE FROM tenantry.nodes WHERE shard_id = 2; DELETE FROM tenantry.shards WHERE id = 2",
        UnknownShard,
        "does not describe",
    ),
    "has no nodes": (
        "DELETE FROM tenantry.nodes WHERE shard_id = 2",
        ShardUnavailable,
        "has no nodes in the catalog",
    ),
    "does not answer": (
        "UPDATE tenantry.nodes SET host = '127.0.0.1', port = 1 WHERE shard_id = 2",
        ShardUnavailable,
        "no connection to the primary of shard 's2' at 127.0.0.1:1",
    ),
}


def key_in(bucket):
    """Return a key of one of two buckets."""
    while (key := uuid4()).int and position(key) * 2 // POSITIONS != bucket:
        pass
    return key


@pytest.fixture(params=AWAY)
def away(request, routable):
    """A fleet whose second shard is away; the error that its tenants' callers get."""
    statement, error, said = AWAY[request.param]
    change(routable, statement)
    if request.param == "does not answer":
        lead(routable.pooler, "s2", NOBODY)
    return routable, error, said


def change(fleet, *statements):
    with psycopg.connect(fleet.catalog, autocommit=True) as conn:
        conn.execute("SET ROLE tenantry_owner")
        for statement in statements:
            conn.execute(statement)


def test_a_shard_that_is_away_is_an_error_for_its_tenants_only(away):
    """Calls of the other shard's tenants go on; a scatter does not pass over it in silence."""
    fleet, error, said = away
    with Router(fleet.app, acquire_timeout=0.3, deadline=5) as router:
        with router.connection(tenant=key_in(0)) as conn:
            assert conn.execute("SELECT 1").fetchone() == (1,)
        with pytest.raises(error, match=said), router.connection(tenant=key_in(1)):
            pass
        with pytest.raises(error, match=said), router.session(tenant=key_in(1)) as session:
            session.connection()
        with pytest.raises(error, match=said):
            router.run(lambda: one(ONE), tenant=key_in(1), deadline=0.5)
        with pytest.raises(PartialResult, match="1 of 2 shards"):
            router.scatter(ONE)
        some = router.scatter(ONE, partial="accept")
    assert some.rows == {"s1": [(1,)]}
    assert not some.complete
    assert len(some.failed) == 1


async def test_the_async_door_says_the_same(away):
    """The same errors, the same partial answers."""
    fleet, error, said = away
    async with AsyncRouter(fleet.app, acquire_timeout=0.3, deadline=5) as router:
        async with router.connection(tenant=key_in(0)) as conn:
            assert await (await conn.execute("SELECT 1")).fetchone() == (1,)
        with pytest.raises(error, match=said):
            async with router.connection(tenant=key_in(1)):
                pass
        with pytest.raises(error, match=said):
            async with router.session(tenant=key_in(1)) as session:
                await session.connection()
        with pytest.raises(PartialResult, match="1 of 2 shards"):
            await router.scatter(ONE)


def test_a_server_that_says_nothing_is_not_a_pool_that_is_too_small(opened, routable):
    """Its connections are awaited, not in use; nor does a pooler in between answer for it."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        _, port = silent.getsockname()
        change(
            routable,
            f"UPDATE tenantry.nodes SET host = '127.0.0.1', port = {port} WHERE shard_id = 2",
        )
        lead(routable.pooler, "s2", replace(NOBODY, port=port))
        with opened(routable.app, acquire_timeout=0.3) as router:
            with pytest.raises(ShardUnavailable, match="nobody has answered there yet"):
                router.run(lambda: one(ONE), tenant=key_in(1), deadline=0.2)
            # Whoever still connects is refused, and the router need not wait for that.
            silent.close()
            if routable.pooler is not None:
                routable.pooler.down()
            router.close()


@pytest.mark.slow
@pytest.mark.direct("commands go past a pooler: it makes no difference to them")
def test_commands_do_not_pass_over_it(away, tenantry):
    """The doctor names it; what goes to all shards is refused; the others' tenants are served."""
    fleet, error, _ = away
    findings = examine(gather_facts(fleet.catalog))
    assert any("s2" in it.object or it.object == "shard 2" for it in findings), findings
    for command in (migrate, schema_diff):
        with pytest.raises((ShardUnavailable, MigrationFailed)):
            command(fleet.catalog)
    shown = tenantry("map", "show", "--catalog", fleet.catalog)
    assert shown.returncode == 0, shown.stderr
    assert create(fleet.catalog, "here", str(key_in(0)))["shard"] == "s1"
    with pytest.raises((error, ShardUnavailable)):
        create(fleet.catalog, "there", str(key_in(1)))


def test_a_map_that_cannot_be_is_refused_and_the_held_one_is_kept(routable):
    """At the start it is an error; a router that runs goes on, and follows again once mended."""
    broken = (
        "UPDATE tenantry.buckets SET state = 'retired', retired_at = now() WHERE number = 1",
        "UPDATE tenantry.fleet SET map_version = map_version + 1",
        "NOTIFY tenantry_map",
    )
    mended = (
        "UPDATE tenantry.buckets SET state = 'serving', retired_at = NULL WHERE number = 1",
        "UPDATE tenantry.fleet SET map_version = map_version + 1",
    )
    key = key_in(1)
    with Router(routable.app, poll_interval=0.05) as router:
        change(routable, *broken)
        with pytest.raises(InvalidConfig, match="end at 2147483648"):
            router.reload()
        with pytest.raises(InvalidConfig, match="end at 2147483648"):
            Router(routable.app).open()
        with router.connection(tenant=key) as conn:
            assert conn.execute("SELECT 1").fetchone() == (1,)
        change(routable, *mended)
        until(lambda: router.map.version == 3)


def test_a_catalog_that_goes_away_and_comes_back(routable, fleet):
    """Routers go on with the map they hold; nobody new can start; then they follow again."""
    server, name = fleet.shards[0].primary, routable.names[0]
    key = key_in(1)
    with (
        psycopg.connect(fleet.superuser_conninfo(server), autocommit=True) as conn,
        Router(routable.app, poll_interval=0.05) as router,
    ):
        end = "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE datname=%s"
        until(lambda: router._follower._following is not None)
        conn.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        conn.execute(end, (name,))
        with router.connection(tenant=key) as routed:
            assert routed.execute("SELECT 1").fetchone() == (1,)
        with pytest.raises(psycopg.errors.UndefinedTable), router.connection(tenant=key) as routed:
            routed.execute("SELECT * FROM nothing")
        for ask in (router.reload, Router(routable.app).open, lambda: router.tenant_of_agent("x")):
            with pytest.raises(CatalogUnavailable, match="does not answer"):
                ask()
        conn.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        change(routable, "UPDATE tenantry.fleet SET map_version = map_version + 1")
        until(lambda: router.map.version == 2)


def test_news_is_heard_and_lost_news_is_found_by_polling(routable):
    """NOTIFY is enough without a poll, a poll is enough without NOTIFY; heartbeats tell."""
    bump = "UPDATE tenantry.fleet SET map_version = map_version + 1"
    beat = "SELECT map_version FROM tenantry.routers WHERE application = %s"
    with (
        Router(routable.app, poll_interval=3600, application="listens") as listens,
        Router(routable.app, poll_interval=0.05, application="polls") as polls,
        psycopg.connect(routable.catalog, autocommit=True) as conn,
    ):
        # Once it has said that it is there it listens.
        until(lambda: conn.execute(beat, ("listens",)).fetchone() == (1,))
        change(routable, bump)
        until(lambda: polls.map.version == 2)
        assert listens.map.version == 1
        change(routable, bump, "NOTIFY tenantry_map, '3'")
        until(lambda: (listens.map.version, polls.map.version) == (3, 3))
        for application in ("listens", "polls"):
            until(lambda it=application: conn.execute(beat, (it,)).fetchone() == (3,))
    with psycopg.connect(routable.catalog) as conn:
        assert conn.execute("SELECT count(*) FROM tenantry.routers").fetchone() == (0,)
