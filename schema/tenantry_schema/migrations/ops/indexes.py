"""Indexes of bucketed tables: built concurrently in every bucket, bucket after bucket.

A table that is partitioned by time gets its index on every time partition first, and then on the
bucket's table, to which the others are attached: partitions that come later have it by themselves.
Source: Postgres documentation, CREATE INDEX, "Building Indexes Concurrently", and section 5.11.2.2.
"""

from __future__ import annotations

from hashlib import blake2s
from typing import TYPE_CHECKING

from alembic.operations import MigrateOperation, Operations
from psycopg import sql
from sqlalchemy import Column, Index, MetaData, Table, Text
from sqlalchemy import text as sql_text
from sqlalchemy.schema import CreateIndex

from tenantry_schema.errors import InvalidSchema
from tenantry_schema.layout.checks import TENANT_COLUMN
from tenantry_schema.layout.ddl import STAND_IN, compiled
from tenantry_schema.migrations.ops.stage import stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tenantry_schema.migrations.ops.stage import Stage
    from tenantry_schema.query import Statement

_VALID = """
SELECT index.indisvalid FROM pg_catalog.pg_index AS index
JOIN pg_catalog.pg_class AS named ON named.oid = index.indexrelid
WHERE named.relnamespace = %s::text::regnamespace AND named.relname = %s
"""
_ATTACHED = """
SELECT named.relname::text FROM pg_catalog.pg_inherits
JOIN pg_catalog.pg_class AS named ON named.oid = inhrelid
WHERE inhparent = (
    SELECT oid FROM pg_catalog.pg_class
    WHERE relnamespace = %s::text::regnamespace AND relname = %s
)
"""
_LONGEST = 63


@Operations.register_operation("create_bucketed_index")
class CreateBucketedIndex(MigrateOperation):
    """Build an index on a table of every bucket."""

    def __init__(
        self,
        name: str,
        table: str,
        columns: Sequence[str],
        *,
        unique: bool = False,
        where: str | None = None,
        using: str | None = None,
    ) -> None:
        if unique and TENANT_COLUMN not in columns:
            raise InvalidSchema(f"unique index {name!r} must contain {TENANT_COLUMN}")
        self.name = name
        self.table = table
        self.columns = tuple(columns)
        self.unique = unique
        self.where = where
        self.using = using

    @classmethod
    def create_bucketed_index(
        cls,
        operations: Operations,
        name: str,
        table: str,
        columns: Sequence[str],
        *,
        unique: bool = False,
        where: str | None = None,
        using: str | None = None,
    ) -> None:
        """Build an index on a table of every bucket; writers go on meanwhile.

        What an interrupted build left invalid is dropped and built again.

        :param columns: names, or expressions in parentheses, such as ``"(lower(name))"``
        :param where: the condition of a partial index
        :param using: the access method, default ``btree``
        :raises InvalidSchema: for a unique index without ``tenant_id``
        """
        operations.invoke(cls(name, table, columns, unique=unique, where=where, using=using))

    def statement(self, schema: str, table: str, name: str, how: str) -> Statement:
        """Return the statement that builds it on one table.

        :param how: what stands between ``INDEX`` and the name: CONCURRENTLY, or nothing
        """
        plain = [Column(it, Text) for it in self.columns if not it.startswith("(")]
        target = Table(table, MetaData(), *plain, schema=STAND_IN)
        parts = [sql_text(it) if it.startswith("(") else target.c[it] for it in self.columns]
        index = Index(name, *parts, unique=self.unique, _table=target)
        options = index.dialect_options["postgresql"]
        options["concurrently"] = how == "CONCURRENTLY"
        if self.where is not None:
            options["where"] = sql_text(self.where)
        if self.using is not None:
            options["using"] = self.using
        text = compiled(CreateIndex(index)).replace(f'"{STAND_IN}"', schema)
        return sql.SQL(text.replace(" ON ", " ON ONLY ", 1) if how == "ONLY" else text)


@Operations.register_operation("drop_bucketed_index")
class DropBucketedIndex(MigrateOperation):
    """Drop an index from a table of every bucket."""

    def __init__(self, name: str, table: str) -> None:
        self.name = name
        self.table = table

    @classmethod
    def drop_bucketed_index(cls, operations: Operations, name: str, table: str) -> None:
        """Drop an index from a table of every bucket."""
        operations.invoke(cls(name, table))


@Operations.implementation_for(CreateBucketedIndex)
def _create(operations: Operations, operation: CreateBucketedIndex) -> None:
    with stage(operations) as here:
        for bucket in here.buckets():
            build(here, operation, bucket.schema)


@Operations.implementation_for(DropBucketedIndex)
def _drop(operations: Operations, operation: DropBucketedIndex) -> None:
    with stage(operations) as here:
        for bucket in here.buckets():
            drop(here, bucket.schema, operation.name)


def build(here: Stage, wanted: CreateBucketedIndex, schema: str) -> None:
    """Build an index in one bucket, as far as it is not there."""
    if here.kind(schema, wanted.table) != "p":
        _concurrently(here, wanted, schema, wanted.table, wanted.name)
        return
    if _valid(here, schema, wanted.name):
        return
    built = {}
    for child in here.children(schema, wanted.table):
        built[child] = partition_index(child, wanted.name)
        _concurrently(here, wanted, schema, child, built[child])
    if _valid(here, schema, wanted.name) is None:
        here.run(wanted.statement(schema, wanted.table, wanted.name, "ONLY"))
    attached = {name for (name,) in here.ask(_ATTACHED, (schema, wanted.name))}
    for name in built.values():
        if name not in attached:
            here.run(
                sql.SQL("ALTER INDEX {} ATTACH PARTITION {}").format(
                    sql.Identifier(schema, wanted.name), sql.Identifier(schema, name)
                )
            )


def drop(here: Stage, schema: str, name: str) -> None:
    """Drop an index of one bucket, if it is there; without holding writers up where that can be."""
    kind = here.kind(schema, name)
    if kind is None:
        return
    how = "DROP INDEX {}" if kind == "I" else "DROP INDEX CONCURRENTLY {}"
    statement = sql.SQL(how).format(sql.Identifier(schema, name))
    if kind == "I":
        here.run(statement)
    else:
        here.run_long(statement)


def partition_index(partition: str, index: str) -> str:
    """Return the name of a time partition's part of an index, in 63 bytes and never twice."""
    name = f"{partition}_{index}"
    if len(name) <= _LONGEST:
        return name
    return f"{partition}_{blake2s(index.encode(), digest_size=4).hexdigest()}"


def _concurrently(
    here: Stage, wanted: CreateBucketedIndex, schema: str, table: str, name: str
) -> None:
    valid = _valid(here, schema, name)
    if valid is False:
        drop(here, schema, name)
    if not valid:
        here.run_long(wanted.statement(schema, table, name, "CONCURRENTLY"))


def _valid(here: Stage, schema: str, name: str) -> bool | None:
    rows = here.ask(_VALID, (schema, name))
    return rows[0][0] if rows else None
