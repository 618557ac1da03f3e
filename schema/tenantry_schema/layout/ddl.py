"""Copies of a service's tables for a place, and their DDL as text: SQLAlchemy compiles it all.

A bucket's DDL is compiled once, for a stand-in schema whose name is then replaced: a shard of a
thousand buckets compiles nothing a thousand times.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    UniqueConstraint,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import AddConstraint, CreateIndex, CreateTable

from tenantry_schema.naming import BUCKET_COLUMN, FLEET, SHARED

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Constraint, Index, Table
    from sqlalchemy.schema import ExecutableDDLElement
    from sqlalchemy.sql import ClauseElement

    from tenantry_schema.layout.rules import Layout

#: Upper case, so that the compiler quotes it: ``"STAND_IN"`` is what gets replaced.
STAND_IN = "STAND_IN"

_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]


def parent_metadata(layout: Layout, parents: str = FLEET, shared: str = SHARED) -> MetaData:
    """Return the parents with the bucket column, and the reference tables.

    Parents carry columns and checks, which partitions inherit; keys, foreign keys and indexes live
    inside the buckets.

    :param parents: the schema that they lie in
    :param shared: the schema that reference tables lie in
    """
    metadata = MetaData()
    for rule in layout.references:
        rule.table.to_metadata(metadata, schema=shared)
    for rule in layout.bucketed:
        parent = rule.table.to_metadata(
            metadata, schema=parents, referred_schema_fn=_referred_to(shared)
        )
        parent.append_column(Column(BUCKET_COLUMN, Integer, nullable=False))
        for constraint in list(parent.constraints):
            if not isinstance(constraint, CheckConstraint):
                parent.constraints.discard(constraint)
        parent.foreign_keys.clear()
        for column in parent.columns:
            column.foreign_keys.clear()
        parent.primary_key = PrimaryKeyConstraint()  # type: ignore[misc]  # typed read-only
        parent.indexes.clear()
        parent.dialect_options["postgresql"]["partition_by"] = f"LIST ({BUCKET_COLUMN})"
    return metadata


def parent_ddl(layout: Layout, parents: str = FLEET, shared: str = SHARED) -> list[str]:
    """Return the statements that create parents and reference tables that are not there."""
    metadata = parent_metadata(layout, parents, shared)
    statements: list[ExecutableDDLElement] = []
    for table in metadata.sorted_tables:
        statements.append(CreateTable(table, if_not_exists=True))
        statements.extend(CreateIndex(it, if_not_exists=True) for it in _sorted_indexes(table))
    return [compiled(statement) for statement in statements]


def bucket_constraints(layout: Layout, shared: str = SHARED) -> list[str]:
    """Return keys, indexes and then foreign keys of a bucket's tables in schema STAND_IN.

    :param shared: the schema that reference tables lie in
    """
    metadata = MetaData()
    copies = [
        rule.table.to_metadata(metadata, schema=STAND_IN, referred_schema_fn=_referred_to(shared))
        for rule in layout.bucketed
    ]
    for rule in layout.bucketed:
        for key in rule.table.foreign_key_constraints:
            _copy_referent(metadata, key.referred_table, shared)
    keys: list[ExecutableDDLElement] = []
    foreign: list[ExecutableDDLElement] = []
    for table in copies:
        for constraint in _sorted_constraints(table):
            added = AddConstraint(constraint, isolate_from_table=False)
            (foreign if isinstance(constraint, ForeignKeyConstraint) else keys).append(added)
        keys.extend(CreateIndex(index) for index in _sorted_indexes(table))
    return [compiled(statement) for statement in (*keys, *foreign)]


def compiled(statement: ClauseElement) -> str:
    """Return the text of a piece of DDL."""
    return str(statement.compile(dialect=_DIALECT)).strip()


def _copy_referent(metadata: MetaData, table: Table, shared: str) -> None:
    schema = shared if _is_reference(table) else STAND_IN
    if f"{schema}.{table.name}" not in metadata.tables:
        table.to_metadata(metadata, schema=schema)


def _is_reference(table: Table) -> bool:
    return bool(table.info.get("tenantry", {}).get("reference"))


def _referred_to(
    shared: str,
) -> Callable[[Table, str | None, ForeignKeyConstraint, str | None], str | None]:
    def referred(
        _table: Table, to_schema: str | None, constraint: ForeignKeyConstraint, _schema: str | None
    ) -> str | None:
        return shared if _is_reference(constraint.referred_table) else to_schema

    return referred


def _sorted_constraints(table: Table) -> list[Constraint]:
    wanted = (PrimaryKeyConstraint, UniqueConstraint, ForeignKeyConstraint)
    found = [it for it in table.constraints if isinstance(it, wanted)]
    return sorted(found, key=lambda it: (not isinstance(it, PrimaryKeyConstraint), str(it.name)))


def _sorted_indexes(table: Table) -> list[Index]:
    return sorted(table.indexes, key=lambda index: str(index.name))
