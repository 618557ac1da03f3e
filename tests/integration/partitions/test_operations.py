"""Alembic operations: a table, its policy and its first partitions, by plain SQL."""

from __future__ import annotations

import io

import psycopg
import pytest
import sqlalchemy as sa
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext

import tenantry_partitions.operations  # noqa: F401  registers them
from tenantry_ops.engine import engine_of
from tenantry_partitions.policies import read_policies
from tenantry_schema.errors import InvalidConfig


def migrate(conninfo, change):
    with engine_of(conninfo).begin() as connection:
        change(Operations(MigrationContext.configure(connection)))


def create(op):
    op.create_time_partitioned_table(
        "public.visits",
        sa.Column("id", sa.BigInteger, primary_key=True),
        sa.Column("at", sa.DateTime(timezone=True), primary_key=True),
        sa.Column("body", sa.Text, server_default="12:30 50%"),
        control="at",
        interval="1 day",
        premake=2,
    )


def test_a_table_is_ready_for_rows(alone):
    """Also before the first rollover, which then has nothing to do."""
    migrate(alone.conninfo, create)
    alone.run("INSERT INTO visits (id, at) VALUES (1, now())")
    assert alone.run("SELECT body FROM visits") == [("12:30 50%",)]
    with psycopg.connect(alone.conninfo) as conn:
        policy = read_policies(conn)["public.visits"]
    assert alone.plan(policy, ("public", "visits")).clean


def test_a_policy_is_set_and_changed(alone):
    """By a table's name, or by the bare name of a table of every bucket."""

    def change(op):
        op.set_partition_policy("logs", control="at", interval="1 week", retention="1 year")
        op.set_partition_policy("logs", control="at", interval="1 week", premake=4)

    migrate(alone.conninfo, change)
    with psycopg.connect(alone.conninfo) as conn:
        assert read_policies(conn)["logs"].as_row()["premake"] == 4
        assert read_policies(conn)["logs"].retention is None


def test_the_script_of_a_migration(alone):
    """Offline it is the same SQL, and runs as it is."""
    out = io.StringIO()
    context = MigrationContext.configure(
        dialect_name="postgresql", opts={"as_sql": True, "output_buffer": out}
    )
    create(Operations(context))
    with psycopg.connect(alone.conninfo, autocommit=True) as conn:
        conn.execute(out.getvalue())
        assert list(read_policies(conn)) == ["public.visits"]
    assert alone.run("SELECT count(*) FROM pg_inherits WHERE inhparent = 'visits'::regclass") == [
        (4,)
    ]


def test_operations_that_cannot_be(alone):
    """Refused before anything is made."""
    with pytest.raises(InvalidConfig, match="no unit"):
        migrate(
            alone.conninfo,
            lambda op: op.set_partition_policy(
                "public.events", control="at", interval="1 day", retention="10"
            ),
        )
    with pytest.raises(InvalidConfig, match="no table's name"):
        migrate(
            alone.conninfo,
            lambda op: op.set_partition_policy("a.b.c", control="at", interval="1 day"),
        )
