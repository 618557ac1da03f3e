from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import psycopg
import pytest
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from tenantry.catalog import directory_lookup, load_map
from tenantry.catalog_writes import (
    create_fleet,
    pin_tenant,
    place_bucket,
    register_tenant,
    zone_node,
)
from tenantry.drive import drive
from tenantry.errors import (
    AlreadyExists,
    AmbiguousPin,
    MapChanged,
    UnknownAgent,
    UnknownBucket,
    UnknownNode,
)
from tenantry.keys import position
from tenantry.map import Node, Shard
from tenantry_schema.layout import Layout
from tenantry_schema.migrations import History, upgrade
from tenantry_schema.models import Base

SHARDS = [Shard(1, "one", (Node("a", "h", 1, "d"),)), Shard(2, "two", (Node("b", "h", 2, "d"),))]

#: Two tenants of one position.
TWINS = UUID(int=30_226), UUID(int=39_818)


@pytest.fixture
def catalog(database):
    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(database.operator),
        poolclass=NullPool,
    )
    with engine.connect() as connection:
        upgrade(History.CATALOG, connection, Layout.from_metadata(Base.metadata))
    with psycopg.connect(database.operator, autocommit=True) as conn:
        with conn.transaction():
            drive(
                conn,
                create_fleet(
                    uuid4(), key_type="uuid", models=None, shards=SHARDS, placement=[1, 2, 1, 2]
                ),
            )
        yield conn


def change(conn, work):
    with conn.transaction():
        return drive(conn, work)


def test_compare_and_swap_lets_one_of_two_win(catalog, database):
    """Two changes planned on one version: the second is refused, and changes nothing."""
    assert change(catalog, place_bucket(0, 2, version=1)) == 2
    with psycopg.connect(database.operator, autocommit=True) as second:
        with pytest.raises(MapChanged):
            change(second, place_bucket(2, 2, version=1))
    held = change(catalog, load_map())
    assert held.version == 2
    assert [held.of_bucket(it).shard for it in range(4)] == [2, 2, 1, 2]


def test_a_change_is_told(catalog, database):
    """NOTIFY carries the new version, when the change commits."""
    with psycopg.connect(database.operator, autocommit=True) as listener:
        listener.execute("LISTEN tenantry_map")
        change(catalog, place_bucket(0, 2, version=1))
        (told,) = listener.notifies(timeout=10, stop_after=1)
    assert told.payload == "2"


def test_a_pin_gives_a_new_bucket_and_a_new_name_to_the_old(catalog):
    """Numbers are never reused, and the bucket that is left gets a new generation."""
    key = uuid4()
    before = change(catalog, load_map()).of_tenant(key)
    number, left = change(catalog, pin_tenant(key, 2, version=1))
    after = change(catalog, load_map())
    assert (number, left) == (4, before.bucket)
    assert after.of_tenant(key) == (4, "bucket_0004", 2)
    assert after.of_bucket(left).schema == f"bucket_{left:04d}_g2"


def pin(key):
    return pin_tenant(key, 2, version=1)


def register(key):
    return register_tenant(key, f"t-{key.int}")


@pytest.mark.parametrize(("first", "second"), [(pin, register), (register, pin)])
def test_no_tenant_shares_the_bits_of_a_pinned_one(catalog, first, second):
    """Whichever came first; what was refused changed nothing, and the first may come again."""
    assert position(TWINS[0]) == position(TWINS[1])
    change(catalog, first(TWINS[0]))
    before = change(catalog, load_map()).version
    with pytest.raises(AmbiguousPin, match=f"{TWINS[1]} shares .* {TWINS[0]}"):
        change(catalog, second(TWINS[1]))
    assert change(catalog, load_map()).version == before
    change(catalog, register(TWINS[0]))


def test_two_pinned_tenants_never_share_their_bits(catalog):
    """Agent ids carry nothing else that tells tenants apart."""
    change(catalog, pin(TWINS[0]))
    with pytest.raises(AmbiguousPin, match="leave it in its range"):
        change(catalog, pin_tenant(TWINS[1], 1, version=2))
    assert change(catalog, load_map()).pin_count == 1


@pytest.mark.parametrize(("first", "second"), [(pin, register), (register, pin)])
def test_of_two_at_once_the_second_waits_and_is_refused(catalog, database, first, second):
    """It cannot look before the first has committed; then it sees what that wrote."""
    with (
        psycopg.connect(database.operator, autocommit=True) as other,
        psycopg.connect(database.operator, autocommit=True) as looking,
        ThreadPoolExecutor(1) as pool,
    ):
        with catalog.transaction():
            drive(catalog, first(TWINS[0]))
            late = pool.submit(change, other, second(TWINS[1]))
            waits = "SELECT %s = ANY (pg_blocking_pids(%s))"
            pids = (catalog.info.backend_pid, other.info.backend_pid)
            while looking.execute(waits, pids).fetchone() != (True,):
                assert not late.done(), late.result()
        with pytest.raises(AmbiguousPin):
            late.result(timeout=10)


def test_an_unknown_bucket_is_not_placed(catalog):
    """The refused change takes its version back."""
    with pytest.raises(UnknownBucket):
        change(catalog, place_bucket(99, 1, version=1))
    assert change(catalog, load_map()).version == 1


def test_a_node_is_put_into_a_zone(catalog):
    """As a change of the map; a node that is not there changes nothing."""
    assert change(catalog, zone_node("a", "east", version=1)) == 2
    assert [it.zone for it in change(catalog, load_map()).shards[1].nodes] == ["east"]
    with pytest.raises(MapChanged):
        change(catalog, zone_node("b", "east", version=1))
    with pytest.raises(UnknownNode, match="no node 'nobody'"):
        change(catalog, zone_node("nobody", "east", version=2))
    held = change(catalog, load_map())
    assert (held.version, held.shards[2].nodes[0].zone) == (2, None)


def test_tenants_are_entered_once(catalog):
    """The same again is nothing; another key for the name, or another name, is refused."""
    key = uuid4()
    change(catalog, register_tenant(key, "acme"))
    change(catalog, register_tenant(key, "acme"))
    for other, name in ((uuid4(), "acme"), (key, "other")):
        with pytest.raises(AlreadyExists):
            change(catalog, register_tenant(other, name))


def test_the_directory_misses_loudly(catalog):
    """An agent that was not minted here is found by the directory, or not at all."""
    key = uuid4()
    change(catalog, register_tenant(key, "acme"))
    catalog.execute("INSERT INTO tenantry.agents VALUES ('legacy-7', %s)", (str(key),))
    assert change(catalog, directory_lookup("legacy-7")) == key
    with pytest.raises(UnknownAgent):
        change(catalog, directory_lookup("nobody"))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE tenantry.buckets SET positions = int8range(0, 99) WHERE number = 3",
        "INSERT INTO tenantry.buckets (number, shard_id) VALUES (0, 1)",
        "INSERT INTO tenantry.buckets (number, shard_id) VALUES (9, 77)",
        "INSERT INTO tenantry.pins VALUES ('x', 4294967296, 0)",
        "INSERT INTO tenantry.fleet (key_type) VALUES ('uuid')",
        "UPDATE tenantry.nodes SET port = 0",
    ],
)
def test_the_catalog_refuses_what_is_wrong(catalog, statement):
    """Overlaps, reused numbers, unknown shards, impossible positions, a second fleet."""
    with pytest.raises(psycopg.IntegrityError):
        catalog.execute(statement)


def test_the_application_changes_nothing(catalog, database):
    """It reads the map and tells its heartbeat: nothing else."""
    with psycopg.connect(database.app, autocommit=True) as app:
        assert len(drive(app, load_map())) == 4
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            app.execute("UPDATE tenantry.fleet SET map_version = 9")
