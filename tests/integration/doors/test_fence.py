"""The name is the fence: a bucket is moved by hand under running writers (design, section 3)."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import text

from tenantry import AsyncRouter, BucketMoved, DeadlineExceeded, Query, Router, mint_agent_id
from tenantry.catalog import load_map
from tenantry.catalog_writes import place_bucket
from tenantry.drive import drive
from tenantry_ops.cluster import read_places
from tenantry_schema.layout import Layout, bucket_statements
from tenantry_schema.models import Base
from tenantry_schema.naming import APP, OPERATOR
from tenantry_schema.query import one

TABLES = ("tenants", "agents")
LOCKED = ("agents", "tenants")  # children before parents: the order in which writers take them
WRITERS = 4


def insert(tenant, agent):
    yield Query("INSERT INTO agents (tenant_id, id, name) VALUES (%s, %s, 'a')", (tenant, agent))


class HandMover:
    """Moves a bucket as an operator would with psql."""

    def __init__(self, fleet):
        self.catalog = fleet.catalog_conninfo(OPERATOR)
        self.away = set()

    def move(self, number):
        self.away ^= {number}
        now = datetime.now(UTC)
        places = read_places(self.catalog)
        home = places.map.of_bucket(number)
        source = next(it for it in places.shards if it.id == home.shard)
        target = next(it for it in places.shards if it.id != home.shard)
        with psycopg.connect(target.conninfo) as there, psycopg.connect(source.conninfo) as here:
            self.make(there, home.schema, number, now)
            self.take(here, home.schema)
            copied = {name: self.read(here, home.schema, name) for name in TABLES}
            gone = sql.Identifier(f"gone_{uuid4().hex[:8]}")
            here.execute(
                sql.SQL("ALTER SCHEMA {} RENAME TO {}").format(sql.Identifier(home.schema), gone)
            )
            for name, (columns, rows) in copied.items():
                self.write(there, home.schema, name, columns, rows)
            here.commit()
            there.execute(
                sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(
                    sql.Identifier(home.schema), sql.Identifier(APP)
                )
            )
            there.commit()
            # What is left would be in the way of a later move back.
            here.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(gone))
        with psycopg.connect(self.catalog) as conn:
            version = drive(conn, load_map()).version
            drive(conn, place_bucket(number, target.id, version=version))
        return target.id

    def make(self, conn, schema, number, now):
        layout = Layout.from_metadata(Base.metadata)
        conn.execute("SET LOCAL ROLE tenantry_owner")
        conn.execute(sql.SQL(";").join(bucket_statements(layout, number, now=now)))
        conn.execute("RESET ROLE")
        conn.execute(
            sql.SQL("REVOKE USAGE ON SCHEMA {} FROM {}").format(
                sql.Identifier(schema), sql.Identifier(APP)
            )
        )

    def take(self, conn, schema):
        names = sql.SQL(", ").join(sql.Identifier(schema, it) for it in LOCKED)
        conn.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(names))

    def read(self, conn, schema, name):
        cursor = conn.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(schema, name)))
        return [it.name for it in cursor.description], cursor.fetchall()

    def write(self, conn, schema, name, columns, rows):
        statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
            sql.Identifier(schema, name),
            sql.SQL(", ").join(map(sql.Identifier, columns)),
            sql.SQL(", ").join(sql.Placeholder() * len(columns)),
        )
        for row in rows:
            values = [psycopg.types.json.Jsonb(it) if isinstance(it, dict) else it for it in row]
            conn.execute(statement, values)


@pytest.fixture
def mover(laid_out):
    """A mover whose buckets are brought home afterwards: other tests know where they live."""
    made = HandMover(laid_out)
    yield made
    for number in list(made.away):
        made.move(number)


@pytest.mark.slow
def test_a_bucket_moves_under_writers_and_nothing_is_lost(laid_out, tenant, mover):
    """``run`` goes on at the new home; what was acknowledged is there, once, and nowhere else."""
    written: list = []
    failed: list = []
    moved = threading.Event()
    with Router(laid_out.catalog_conninfo(), poll_interval=30) as router:
        before = router.where(tenant=tenant)

        def write():
            after = 0
            while after < 20:
                agent = mint_agent_id(tenant)
                try:
                    router.run(
                        lambda agent=agent: insert(tenant, agent), tenant=tenant, deadline=20
                    )
                except Exception as error:
                    failed.append(error)
                    return
                written.append(agent)
                after += moved.is_set()

        writers = [threading.Thread(target=write) for _ in range(WRITERS)]
        for it in writers:
            it.start()
        home = mover.move(before.bucket)
        moved.set()
        for it in writers:
            it.join()
        assert not failed
        assert router.where(tenant=tenant) == (before.bucket, before.schema, home)
        with router.connection(tenant=tenant) as conn:
            found = {row[0] for row in conn.execute("SELECT id FROM agents")}
        assert found == set(written)
        assert len(written) == len(set(written))


def test_a_session_on_a_moved_bucket_says_so(laid_out, tenant, mover):
    """A router with an old map is refused by name, and its session is retryable."""
    with Router(laid_out.catalog_conninfo(), poll_interval=3600) as router:
        before = router.where(tenant=tenant)
        stale = router.session(tenant=tenant)
        mover.move(before.bucket)
        with pytest.raises(BucketMoved, match="open a new session"), stale as session:
            session.connection().exec_driver_sql("SELECT * FROM tenants")
        with router.session(tenant=tenant) as session:
            rows = session.connection().exec_driver_sql("SELECT tenant_id FROM tenants").all()
        assert rows == [(tenant,)]


async def test_the_async_door_meets_the_same_fence(laid_out, tenant, mover):
    """Its session says so, its ``run`` goes on at the new home."""
    async with AsyncRouter(laid_out.catalog_conninfo(), poll_interval=3600) as router:
        before = router.where(tenant=tenant)
        stale = router.session(tenant=tenant)
        agent = mint_agent_id(tenant)
        mover.move(before.bucket)
        with pytest.raises(BucketMoved, match="open a new session"):
            async with stale as session:
                await session.connection()
                await session.scalars(text("SELECT tenant_id FROM tenants"))
        await router.run(lambda: insert(tenant, agent), tenant=tenant)
        assert router.where(tenant=tenant).shard != before.shard
    async with AsyncRouter(laid_out.catalog_conninfo(), poll_interval=3600) as router:
        mover.move(before.bucket)
        await router.run(lambda: insert(tenant, mint_agent_id(tenant)), tenant=tenant)
        async with router.connection(tenant=tenant) as conn:
            assert len(await (await conn.execute("SELECT id FROM agents")).fetchall()) == 2


@pytest.mark.parametrize("statement", ["SELECT * FROM tenants", "DELETE FROM agents"])
def test_a_bucket_on_its_way_is_told_and_waited_for(laid_out, router, tenant, statement):
    """No USAGE yet at its home: a session says that it moves, ``run`` waits until it is served."""
    home = router.where(tenant=tenant)
    name = router.map.shards[home.shard].name
    server = next(it for it in laid_out.shards if it.name == name).primary
    place, role = sql.Identifier(home.schema), sql.Identifier(APP)
    with psycopg.connect(laid_out.conninfo(server), autocommit=True) as conn:
        conn.execute(sql.SQL("REVOKE USAGE ON SCHEMA {} FROM {}").format(place, role))
        try:
            with (
                pytest.raises(BucketMoved, match="on its way"),
                router.session(tenant=tenant) as it,
            ):
                it.connection().exec_driver_sql(statement)
            # The deadline may come between two attempts or within one.
            with pytest.raises((BucketMoved, DeadlineExceeded), match="on its way"):
                router.run(lambda: one(Query(statement)), tenant=tenant, deadline=0.5)
        finally:
            grant = sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(place, role)
            late = threading.Timer(0.3, conn.execute, (grant,))
            late.start()
            agent = mint_agent_id(tenant)
            router.run(lambda: insert(tenant, agent), tenant=tenant, deadline=20)
            late.join()


def test_a_missing_table_of_ones_own_is_the_original_error(router, tenant):
    """Where the bucket is where it was, the caller gets what Postgres said."""
    with pytest.raises(psycopg.errors.UndefinedTable), router.connection(tenant=tenant) as conn:
        conn.execute("SELECT * FROM no_such_table")


def test_with_the_catalog_away_a_router_goes_on(laid_out, tenant, monkeypatch):
    """The held map is enough; the original error is given where it cannot be explained."""
    with Router(laid_out.catalog_conninfo()) as router:
        unreachable = "host=127.0.0.1 port=1 dbname=x user=y"
        monkeypatch.setattr(router._follower._link, "_conninfo", unreachable)
        with router.connection(tenant=tenant) as conn:
            assert conn.execute("SELECT tenant_id FROM tenants").fetchone() == (tenant,)
        with pytest.raises(psycopg.errors.UndefinedTable), router.connection(tenant=tenant) as conn:
            conn.execute("SELECT * FROM no_such_table")
