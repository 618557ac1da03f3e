"""The structure of real buckets, changed by hand, against what the models would make today."""

from __future__ import annotations

import json
from contextlib import contextmanager

import psycopg
import pytest

from tenantry_ops.structure import schema_diff
from tenantry_schema.naming import OPERATOR, SHARD_DATABASE


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
