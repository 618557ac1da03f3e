"""Columns: changed at the parent, which changes every bucket's table in the same statement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alembic.autogenerate import renderers
from alembic.autogenerate.render import _render_column
from alembic.operations import MigrateOperation, Operations
from psycopg import sql
from sqlalchemy import Column, MetaData, Table
from sqlalchemy.schema import CreateColumn

from tenantry_schema.layout.ddl import compiled
from tenantry_schema.migrations.ops.stage import parent, stage

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext


@Operations.register_operation("add_bucketed_column")
class AddBucketedColumn(MigrateOperation):
    """Add a column to a table of every bucket."""

    def __init__(self, table: str, column: Column[Any]) -> None:
        self.table = table
        self.column = column

    @classmethod
    def add_bucketed_column(cls, operations: Operations, table: str, column: Column[Any]) -> None:
        """Add a column to a table of every bucket; a constant default costs no rewrite.

        Source: Postgres documentation, ALTER TABLE, "ADD COLUMN".
        """
        operations.invoke(cls(table, column))

    def reverse(self) -> DropBucketedColumn:
        """Return what takes it back."""
        return DropBucketedColumn(self.table, self.column.name, self.column)


@Operations.register_operation("drop_bucketed_column")
class DropBucketedColumn(MigrateOperation):
    """Drop a column from a table of every bucket."""

    def __init__(self, table: str, name: str, was: Column[Any] | None = None) -> None:
        self.table = table
        self.name = name
        self.was = was

    @classmethod
    def drop_bucketed_column(cls, operations: Operations, table: str, name: str) -> None:
        """Drop a column from a table of every bucket."""
        operations.invoke(cls(table, name))

    def reverse(self) -> AddBucketedColumn:
        """Return what takes it back."""
        if self.was is None:
            raise ValueError(f"what column {self.table}.{self.name} was is not known")
        return AddBucketedColumn(self.table, self.was)


@Operations.implementation_for(AddBucketedColumn)
def _add(operations: Operations, operation: AddBucketedColumn) -> None:
    # A column has one table for life, and the revision's is the caller's.
    column = operation.column._copy()
    Table(operation.table, MetaData(), column)
    text = sql.SQL(compiled(CreateColumn(column)))
    with stage(operations) as here:
        here.run(
            sql.SQL("ALTER TABLE {} ADD COLUMN IF NOT EXISTS {}").format(
                parent(operation.table), text
            )
        )


@Operations.implementation_for(DropBucketedColumn)
def _drop(operations: Operations, operation: DropBucketedColumn) -> None:
    with stage(operations) as here:
        here.run(
            sql.SQL("ALTER TABLE {} DROP COLUMN IF EXISTS {}").format(
                parent(operation.table), sql.Identifier(operation.name)
            )
        )


@renderers.dispatch_for(AddBucketedColumn)
def _render_add(context: AutogenContext, operation: AddBucketedColumn) -> str:
    return (
        f"op.add_bucketed_column({operation.table!r}, {_render_column(operation.column, context)})"
    )


@renderers.dispatch_for(DropBucketedColumn)
def _render_drop(context: AutogenContext, operation: DropBucketedColumn) -> str:
    del context
    return f"op.drop_bucketed_column({operation.table!r}, {operation.name!r})"
