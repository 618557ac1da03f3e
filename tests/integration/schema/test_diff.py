"""The structure of real buckets, changed by hand, against what the models would make today."""

from __future__ import annotations

import json
from contextlib import contextmanager

import psycopg
import pytest
from sqlalchemy import Column, MetaData, Table, Text

from tenantry_ops.structure import Difference, schema_diff
from tenantry_schema.layout import Layout, shard_statements
from tenantry_schema.models import Base
from tenantry_schema.naming import OPERATOR, SHARD_DATABASE

#: The shipped tables, and two that are the same on every shard.
WITH_REFERENCES = MetaData()
for shipped in Base.metadata.sorted_tables:
    shipped.to_metadata(WITH_REFERENCES)
for reference in ("colours", "kinds"):
    name = Column("name", Text, primary_key=True)
    Table(reference, WITH_REFERENCES, name, info={"tenantry": {"reference": True}})


@contextmanager
def changed(fleet, shard, change, back):
    """Change a shard as superuser, and change it back."""
    conninfo = fleet.superuser_conninfo(fleet.shards[shard].primary, SHARD_DATABASE)
    with psycopg.connect(conninfo, autocommit=True) as conn:
        conn.execute(change)
        try:
            yield
        finally:
            conn.execute(back)


def diff(fleet):
    return schema_diff(fleet.catalog_conninfo(OPERATOR))


def test_a_new_fleet_is_as_its_models_say(laid_out):
    """Nothing differs, and nothing was left by looking."""
    assert diff(laid_out) == []
    for shard in laid_out.shards:
        with psycopg.connect(laid_out.superuser_conninfo(shard.primary, SHARD_DATABASE)) as conn:
            left = "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'tenantry\\_exp%'"
            assert conn.execute(left).fetchone() == (0,)


CHANGES = [
    (
        "ALTER TABLE bucket_0001.tasks ALTER COLUMN queue SET DEFAULT 'other'",
        "ALTER TABLE bucket_0001.tasks ALTER COLUMN queue SET DEFAULT 'default'",
        ("bucket_0001", "tasks", "column queue", "DEFAULT 'default'", "DEFAULT 'other'"),
    ),
    (
        "ALTER INDEX bucket_0001.tasks_agent_idx RENAME TO other_idx",
        "ALTER INDEX bucket_0001.other_idx RENAME TO tasks_agent_idx",
        ("bucket_0001", "tasks", "index other_idx", None, "CREATE INDEX other_idx ON"),
    ),
    (
        "ALTER TABLE bucket_0003.agents NO FORCE ROW LEVEL SECURITY",
        "ALTER TABLE bucket_0003.agents FORCE ROW LEVEL SECURITY",
        ("bucket_0003", "agents", "table", "row security forced", "row security enabled, owner"),
    ),
    (
        "GRANT UPDATE ON bucket_0003.transitions TO tenantry_app",
        "REVOKE UPDATE ON bucket_0003.transitions FROM tenantry_app",
        ("bucket_0003", "transitions", "grant tenantry_app", "INSERT, SELECT", "UPDATE"),
    ),
    (
        "ALTER POLICY tenantry_app ON bucket_0005.tasks USING (true)",
        "ALTER POLICY tenantry_app ON bucket_0005.tasks USING (tenant_id = "
        "nullif(current_setting('tenantry.tenant', true), '')::uuid)",
        ("bucket_0005", "tasks", "policy tenantry_app", "current_setting", "USING true"),
    ),
    (
        "CREATE TABLE bucket_0005.extra (n int)",
        "DROP TABLE bucket_0005.extra",
        ("bucket_0005", "extra", "table", None, "kind r"),
    ),
    (
        "ALTER TABLE fleet.logs ADD COLUMN colour text",
        "ALTER TABLE fleet.logs DROP COLUMN colour",
        ("fleet", "logs", "column colour", None, "text"),
    ),
    (
        "ALTER TABLE bucket_0007.task_edges DROP CONSTRAINT task_edges_needs_fkey",
        "ALTER TABLE bucket_0007.task_edges ADD CONSTRAINT task_edges_needs_fkey FOREIGN KEY "
        "(tenant_id, needs_id) REFERENCES bucket_0007.tasks (tenant_id, id) ON DELETE CASCADE",
        ("bucket_0007", "task_edges", "constraint task_edges_needs_fkey", "FOREIGN KEY", None),
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize("case", CHANGES, ids=lambda case: case[2][2])
def test_each_difference_is_named(laid_out, case):
    """Which shard, which bucket, which table, what it should be and what it is."""
    change, back, (schema, table, part, expected, found) = case
    with changed(laid_out, 1, change, back):
        differing = diff(laid_out)
    (it,) = [it for it in differing if (it.schema, it.table, it.part) == (schema, table, part)]
    assert it.shard == laid_out.shards[1].name
    for said, wanted in ((it.expected, expected), (it.found, found)):
        assert said is None if wanted is None else wanted in said
    assert diff(laid_out) == []


MISPLACED = {
    "DROP SCHEMA bucket_0001 CASCADE": [("bucket_0001", "the catalog places it here", None)],
    "ALTER SCHEMA bucket_0001 RENAME TO bucket_0001_g2": [
        ("bucket_0001", "the catalog places it here", None),
        ("bucket_0001_g2", None, "a bucket which the catalog places nowhere"),
    ],
    "CREATE SCHEMA bucket_0000": [("bucket_0000", None, "a bucket whose home is s1")],
}


@pytest.mark.parametrize("change", MISPLACED)
@pytest.mark.slow
def test_a_bucket_that_is_not_where_the_catalog_places_it(ready, tenantry, change):
    """Each is one difference, however many tables it has, and the command exits with 1."""
    with psycopg.connect(ready.conninfos[1]) as conn:
        conn.execute(change)
    assert schema_diff(ready.catalog) == [
        Difference("s2", schema, "", "schema", expected, found)
        for schema, expected, found in MISPLACED[change]
    ]
    ended = tenantry("schema", "diff", "--catalog", ready.catalog)
    assert (ended.returncode, "as the models say" in ended.stdout) == (1, False)


def refer(fleet):
    """Give a fleet models with reference tables, and make these on every shard."""
    with psycopg.connect(fleet.catalog) as conn:
        conn.execute("SET ROLE tenantry_owner")
        conn.execute("UPDATE tenantry.fleet SET models = %s", (f"{__name__}:WITH_REFERENCES",))
    on_every_shard(fleet, shard_statements(Layout.from_metadata(WITH_REFERENCES)))


def on_every_shard(fleet, statements):
    for conninfo in fleet.conninfos:
        with psycopg.connect(conninfo) as conn:
            conn.execute("SET ROLE tenantry_owner")
            for statement in statements:
                conn.execute(statement)


# What is changed on every shard, and what is said of each.
REFERENCES = {
    "ALTER TABLE shared.colours ADD COLUMN hue int": ("colours", "column hue", None, "integer"),
    "REVOKE SELECT ON shared.colours FROM tenantry_app": (
        *("colours", "grant tenantry_app"),
        *("SELECT", None),
    ),
    "DROP TABLE shared.kinds": ("kinds", "table", "kind r, owner tenantry_owner", None),
    "CREATE TABLE shared.sizes (n int)": ("sizes", "table", None, "kind r, owner tenantry_owner"),
    "GRANT CREATE ON SCHEMA shared TO tenantry_app": (
        *("", "schema grant tenantry_app"),
        *("USAGE", "CREATE, USAGE"),
    ),
}


def test_reference_tables_are_compared_with_the_models(ready):
    """Not with the first shard's, which may be as wrong as the others."""
    refer(ready)
    assert schema_diff(ready.catalog) == []
    on_every_shard(ready, REFERENCES)
    differing = schema_diff(ready.catalog)
    for shard in ("s1", "s2"):
        told = {
            (it.table, it.part, it.expected, it.found)
            for it in differing
            if (it.shard, it.schema) == (shard, "shared")
        }
        assert told == set(REFERENCES.values())
    assert len(differing) == 2 * len(REFERENCES)


@pytest.mark.slow
def test_a_time_partition_that_lost_its_index(laid_out):
    """Time partitions may be as many as they are; each must be made like the others."""
    conninfo = laid_out.superuser_conninfo(laid_out.shards[1].primary, SHARD_DATABASE)
    with psycopg.connect(conninfo, autocommit=True) as conn:
        find = "SELECT relname FROM pg_class WHERE oid = %s::regclass"
        name = "bucket_0001.logs_p20990105"
        conn.execute(
            f"CREATE TABLE {name} PARTITION OF bucket_0001.logs "
            "FOR VALUES FROM ('2099-01-05') TO ('2099-01-12')"
        )
        try:
            assert conn.execute(find, (name,)).fetchone() == ("logs_p20990105",)
            parts = {it.part for it in diff(laid_out) if it.table == "logs_p20990105"}
            assert "policy tenantry_app" in parts
            assert not any(part.startswith("index") for part in parts)
        finally:
            conn.execute(f"DROP TABLE {name}")


@pytest.mark.slow
def test_the_command_exits_with_1_and_names_it(laid_out, tenantry):
    """``--json`` for programs; nothing differs is exit code 0."""
    command = ("schema", "diff", "--json", "--dir", laid_out.directory)
    change = "ALTER TABLE fleet.agents ADD COLUMN colour text"
    back = "ALTER TABLE fleet.agents DROP COLUMN colour"
    with changed(laid_out, 0, change, back):
        ended = tenantry(*command)
    assert ended.returncode == 1, ended.stderr
    listed = json.loads(ended.stdout)
    assert {it["part"] for it in listed} == {"column colour"}
    # The column reached every bucket of that shard, and the parent.
    assert len(listed) == 9
    assert (tenantry(*command).returncode, tenantry(*command).stdout) == (0, "[]\n")
