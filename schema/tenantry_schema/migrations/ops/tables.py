"""Tables of every bucket: the parent first, then each bucket's own in one transaction."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from alembic.autogenerate import renderers
from alembic.autogenerate.render import _render_column, _render_constraint
from alembic.operations import MigrateOperation, Operations
from psycopg import sql
from sqlalchemy import Column, ForeignKeyConstraint, Index, MetaData, Table

from tenantry_schema.layout import Layout, table_statements
from tenantry_schema.layout.ddl import parent_ddl
from tenantry_schema.migrations.ops.stage import parent, stage
from tenantry_schema.naming import SHARED

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from alembic.autogenerate.api import AutogenContext
    from sqlalchemy.schema import SchemaItem

_REFERENCES = """
SELECT relname::text FROM pg_catalog.pg_class
WHERE relnamespace = %s::text::regnamespace AND relkind IN ('r', 'p')
"""


@Operations.register_operation("create_bucketed_table")
class CreateBucketedTable(MigrateOperation):
    """Make a table in every bucket."""

    def __init__(
        self, name: str, *elements: SchemaItem, info: Mapping[str, Any] | None = None
    ) -> None:
        self.name = name
        self.elements = elements
        self.info = dict(info or {})

    @classmethod
    def create_bucketed_table(
        cls,
        operations: Operations,
        name: str,
        *elements: SchemaItem,
        info: Mapping[str, Any] | None = None,
    ) -> None:
        """Make a table in every bucket, with its keys, indexes, policies and grants.

        :param elements: columns, constraints and indexes as for ``sqlalchemy.Table``
        :param info: ``{"tenantry": {"time": column}}`` for an append-only table
        :raises InvalidSchema: when its rows could not live in buckets
        """
        operations.invoke(cls(name, *elements, info=info))

    def reverse(self) -> DropBucketedTable:
        """Return what takes it back."""
        return DropBucketedTable(self.name, self)

    def layout(self, references: Collection[str]) -> Layout:
        """Return the layout of this table alone; what it refers to is only named.

        :param references: the names of the tables that are no tenant's
        """
        metadata = MetaData()
        table = Table(self.name, metadata, *self.elements, info=self.info)
        for constraint in table.foreign_key_constraints:
            _name_referent(metadata, constraint, references)
        whole = Layout.from_metadata(metadata)
        return Layout(tuple(it for it in whole.tables if it.table is table), whole.key_type)


@Operations.register_operation("drop_bucketed_table")
class DropBucketedTable(MigrateOperation):
    """Drop a table of every bucket, with its rows."""

    def __init__(self, name: str, was: CreateBucketedTable | None = None) -> None:
        self.name = name
        self.was = was

    @classmethod
    def drop_bucketed_table(cls, operations: Operations, name: str) -> None:
        """Drop a table of every bucket, with its rows."""
        operations.invoke(cls(name))

    def reverse(self) -> CreateBucketedTable:
        """Return what takes it back, empty."""
        if self.was is None:
            raise ValueError(f"what table {self.name} was is not known")
        return self.was


@Operations.implementation_for(CreateBucketedTable)
def _create(operations: Operations, operation: CreateBucketedTable) -> None:
    now = datetime.now(UTC)
    with stage(operations) as here:
        layout = operation.layout({name for (name,) in here.ask(_REFERENCES, (SHARED,))})
        here.run(*(sql.SQL(text) for text in parent_ddl(layout)))
        for bucket in here.buckets():
            if here.kind(bucket.schema, operation.name) is None:
                here.run(*table_statements(layout, bucket.schema, bucket.number, now=now))


@Operations.implementation_for(DropBucketedTable)
def _drop(operations: Operations, operation: DropBucketedTable) -> None:
    with stage(operations) as here:
        for bucket in here.buckets():
            gone = sql.Identifier(bucket.schema, operation.name)
            here.run(sql.SQL("DROP TABLE IF EXISTS {}").format(gone))
        here.run(sql.SQL("DROP TABLE IF EXISTS {}").format(parent(operation.name)))


@renderers.dispatch_for(CreateBucketedTable)
def _render_create(context: AutogenContext, operation: CreateBucketedTable) -> str:
    lines = [repr(operation.name)]
    for element in operation.elements:
        if isinstance(element, Column):
            lines.append(_render_column(element, context))
        elif isinstance(element, Index):
            lines.append(_rendered_index(element))
        else:
            rendered = _render_constraint(element, context, None)  # type: ignore[arg-type]
            if rendered:
                lines.append(rendered)
    if operation.info:
        lines.append(f"info={operation.info!r}")
    body = ",\n    ".join(lines)
    return f"op.create_bucketed_table(\n    {body},\n)"


@renderers.dispatch_for(DropBucketedTable)
def _render_drop(context: AutogenContext, operation: DropBucketedTable) -> str:
    del context
    return f"op.drop_bucketed_table({operation.name!r})"


def _rendered_index(index: Index) -> str:
    columns = ", ".join(
        repr(it.name) if isinstance(it, Column) else f"sa.text({str(it)!r})"
        for it in index.expressions
    )
    unique = ", unique=True" if index.unique else ""
    where = index.dialect_options["postgresql"].get("where")
    condition = "" if where is None else f", postgresql_where=sa.text({str(where)!r})"
    return f"sa.Index({index.name!r}, {columns}{unique}{condition})"


def _name_referent(
    metadata: MetaData, constraint: ForeignKeyConstraint, references: Collection[str]
) -> None:
    name = constraint.elements[0].target_fullname.rpartition(".")[0]
    if name in metadata.tables:
        return
    columns = [
        Column(it.target_fullname.rpartition(".")[2], it.parent.type, primary_key=True)
        for it in constraint.elements
    ]
    info = {"tenantry": {"reference": True}} if name in references else {}
    Table(name, metadata, *columns, info=info)
