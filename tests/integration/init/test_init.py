"""Init on real servers: once, by one process, and resumable after any kill."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Column, MetaData, Table, Uuid

from tenantry.map import Node, Shard
from tenantry_ops.cluster import read_places
from tenantry_ops.doctor import examine, gather_facts
from tenantry_ops.initialise import initialise
from tenantry_schema.errors import (
    AlreadyExists,
    CatalogUnavailable,
    InvalidConfig,
    InvalidSchema,
    MigrationFailed,
    OperationInProgress,
    ShardUnavailable,
)

KILLED = Path(__file__).with_name("killed.py")
SCHEMAS = "SELECT count(*) FROM pg_namespace WHERE starts_with(nspname, 'bucket_')"
REFUSE = """
CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
    IF EXISTS (SELECT FROM pg_event_trigger_ddl_commands() WHERE object_identity = 'bucket_0003')
    THEN RAISE 'not today'; END IF;
END $$;
CREATE EVENT TRIGGER refuse ON ddl_command_end EXECUTE FUNCTION refuse()
"""
ALL = "SELECT count(*) FROM pg_class WHERE relnamespace::regnamespace::text !~ '^(pg_|information)'"


def kill(plan, *, first, step, most=1000):
    """Kill inits, each a few statements later, until one comes through."""
    told = {
        "catalog": plan.catalog,
        "buckets": plan.buckets,
        "shards": [
            (it.id, it.name, [(node.name, node.host, node.port, node.dbname) for node in it.nodes])
            for it in plan.shards
        ],
        "first": first,
        "step": step,
        "most": most,
    }
    ended = subprocess.run(
        [sys.executable, str(KILLED)],
        input=json.dumps(told),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def objects(conninfo):
    with psycopg.connect(conninfo) as conn:
        return conn.execute(ALL).fetchone()[0]


def check(plan):
    """Everything is there, once, and the doctor agrees."""
    places = read_places(plan.catalog)
    assert places.map.version == 1
    assert [it.shard for it in places.map.placements()] == plan.placement
    counts = []
    for place in places.shards:
        with psycopg.connect(place.conninfo) as conn:
            counts.append(conn.execute(SCHEMAS).fetchone()[0])
    assert counts == [plan.placement.count(it.id) for it in plan.shards]
    assert examine(gather_facts(plan.catalog)) == []


@pytest.mark.slow
@pytest.mark.parametrize("buckets", [1, 7, 32])
def test_any_number_of_buckets(blank, buckets):
    """Also one, and one that is no power of two; the SQL function agrees with the map."""
    plan = blank.plan(buckets)
    initialise(plan)
    check(plan)
    held = read_places(plan.catalog).map
    with psycopg.connect(blank.conninfos[1]) as conn:
        rows = conn.execute(
            "SELECT key, tenantry.bucket_of(key) FROM "
            "(SELECT gen_random_uuid() AS key FROM generate_series(1, 200)) AS keys"
        ).fetchall()
    assert [bucket for _, bucket in rows] == [held.of_tenant(key).bucket for key, _ in rows]


@pytest.mark.slow
@pytest.mark.parametrize(("step", "least"), [(15, 2), (3, 8)])
def test_a_killed_init_is_resumed(blank, step, least):
    """Killed again and again, each time a little later, it completes one and the same fleet."""
    plan = blank.plan(8)
    found = kill(plan, first=step, step=step)
    assert found["killed"] >= least
    assert found["begun"] == [str(read_places(plan.catalog).map.fleet_id)]
    check(plan)


def fleet_ids(blank):
    """Return the fleets that shards say they belong to."""
    found = set()
    for conninfo in blank.conninfos:
        with psycopg.connect(conninfo) as conn:
            if conn.execute("SELECT to_regclass('tenantry.shard')").fetchone()[0] is not None:
                found |= {row[0] for row in conn.execute("SELECT fleet_id FROM tenantry.shard")}
    return found


@pytest.mark.slow
def test_an_init_that_failed_is_resumed(fleet, blank):
    """A bucket that cannot be made ends it; once the reason is gone, it goes on."""
    plan = blank.plan(8)
    node = blank.shards[1].nodes[0]
    server = fleet.shards[1].primary
    with psycopg.connect(fleet.superuser_conninfo(server, node.dbname), autocommit=True) as conn:
        conn.execute(REFUSE)
        with pytest.raises(MigrationFailed, match=r"'s2' .*not today.* run `tenantry init` again"):
            initialise(plan)
        conn.execute("DROP EVENT TRIGGER refuse")
        conn.execute("DROP FUNCTION refuse")
    (begun,) = fleet_ids(blank)
    assert initialise(plan) == begun
    check(plan)


@pytest.mark.slow
def test_an_init_is_resumed_with_its_own_options_only(blank):
    """Other options would leave buckets that nobody serves, and ranges that overlap."""
    assert kill(blank.plan(8), first=20, step=1, most=1)["killed"] == 1
    with pytest.raises(AlreadyExists, match="'buckets': 8"):
        initialise(blank.plan(4))
    swapped = blank.plan(8, shards=(replace(blank.shards[0], name="other"), blank.shards[1]))
    with pytest.raises(AlreadyExists, match="other options"):
        initialise(swapped)
    initialise(blank.plan(8))
    check(blank.plan(8))


@pytest.mark.slow
def test_of_two_inits_at_once_one_wins(blank):
    """The other one is refused by name, whichever it is."""
    plan = blank.plan(8)

    def attempt(_):
        try:
            return initialise(plan)
        except (OperationInProgress, AlreadyExists) as error:
            return error

    with ThreadPoolExecutor(4) as pool:
        ended = list(pool.map(attempt, range(4)))
    assert sum(not isinstance(it, Exception) for it in ended) == 1, ended
    check(plan)


def test_nothing_is_changed_before_a_refusal(blank):
    """Impossible numbers and shards that do not answer leave empty databases empty."""
    for buckets in (0, -1, 65_537, 100_000):
        with pytest.raises(InvalidConfig, match="1 to 65,536"):
            blank.plan(buckets)
    dead = Shard(2, "s2", (Node("s2-a", "127.0.0.1", 1, "tenantry"),))
    with pytest.raises(ShardUnavailable, match="'s2' answers"):
        initialise(blank.plan(8, shards=(blank.shards[0], dead)))
    with pytest.raises(InvalidConfig, match="no_such_module"):
        initialise(blank.plan(8, models="no_such_module:Base"))
    assert [objects(it) for it in (blank.catalog, *blank.conninfos)] == [0, 0, 0]
    with pytest.raises(CatalogUnavailable, match="does not answer"):
        initialise(blank.plan(8, catalog="host=127.0.0.1 port=1 dbname=none user=nobody"))


#: Two of its tables fit; the last one does not.
UNFIT = MetaData()
for name, *columns in (("homes", "tenant_id"), ("kinds", "tenant_id", "id"), ("notes", "id")):
    Table(name, UNFIT, *(Column(it, Uuid, primary_key=True) for it in columns))


def test_models_that_do_not_fit_leave_empty_databases_empty(blank, tenantry):
    """They are refused before the first statement, also by the command."""
    models = f"{__name__}:UNFIT"
    reason = r"'notes': the primary key must begin with tenant_id, but is \['id'\]: put tenant_id"
    with pytest.raises(InvalidSchema, match=reason):
        initialise(blank.plan(2, models=models))
    options = ["--catalog", blank.catalog, "--models", models, "--buckets", "2"]
    for number, conninfo in enumerate(blank.conninfos, start=1):
        options += ["--shard", f"s{number}={conninfo}"]
    ended = tenantry("init", *options)
    assert ended.returncode == 2
    assert "put tenant_id first" in " ".join(ended.stderr.split())
    assert [objects(it) for it in (blank.catalog, *blank.conninfos)] == [0, 0, 0]


@pytest.mark.slow
def test_a_shard_of_another_fleet_is_refused(blank):
    """Two fleets never share a database."""
    initialise(blank.plan(4))
    with psycopg.connect(blank.catalog, autocommit=True) as conn:
        conn.execute("SET ROLE tenantry_owner")
        conn.execute("DROP SCHEMA tenantry CASCADE")
    with pytest.raises(AlreadyExists, match="belongs to another fleet"):
        initialise(blank.plan(4))


@pytest.mark.slow
def test_an_existing_fleet_is_left_as_it_is(blank):
    """Also its catalog's revision."""
    initialise(blank.plan(4))
    with psycopg.connect(blank.catalog, autocommit=True) as conn:
        conn.execute("SET ROLE tenantry_owner")
        conn.execute("UPDATE tenantry.alembic_version SET version_num = 'older'")
    with pytest.raises(AlreadyExists, match="nothing was changed"):
        initialise(blank.plan(4))
    assert {initialise(blank.plan(8), if_missing=True)} == fleet_ids(blank)
    with psycopg.connect(blank.catalog) as conn:
        stamped = conn.execute("SELECT version_num FROM tenantry.alembic_version").fetchone()
    assert stamped == ("older",)
