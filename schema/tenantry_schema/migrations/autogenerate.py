"""What autogenerate compares, and in which words it writes what it found.

It compares the parents: a bucket's tables and their time partitions lie in other schemas and are
never looked at. What it finds is written as operations on every bucket.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alembic.operations import ops

import tenantry_schema.migrations.ops as bucketed
from tenantry_schema.naming import FLEET, SHARED

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping

    from alembic.migration import MigrationContext
    from sqlalchemy import Table

    from tenantry_schema.layout import Layout


def is_ours(name: str | None, kind: str, _parents: MutableMapping[Any, str | None]) -> bool:
    """Say whether autogenerate is to look at something: parents and reference tables only."""
    return kind != "schema" or name in {FLEET, SHARED}


def in_words_of_buckets(
    context: MigrationContext, _revision: object, directives: list[ops.MigrationScript]
) -> None:
    """Replace operations on parents by operations on every bucket."""
    assert context.config is not None
    layout: Layout = context.config.attributes["layout"]
    for script in directives:
        found = script.upgrade_ops
        if found is None or script.downgrade_ops is None:
            continue
        found.ops = [it for one in found.ops for it in _translated(one, layout)]
        script.downgrade_ops.ops = [it.reverse() for it in reversed(found.ops)]


def _translated(found: Any, layout: Layout) -> Iterator[ops.MigrateOperation]:
    if isinstance(found, ops.ModifyTableOps):
        for inner in found.ops:
            yield from _translated(inner, layout)
    elif getattr(found, "schema", None) != FLEET:
        yield found
    elif isinstance(found, ops.CreateTableOp):
        table = next(rule.table for rule in layout.bucketed if rule.name == found.table_name)
        yield _created(table)
    elif isinstance(found, ops.DropTableOp):
        yield bucketed.DropBucketedTable(found.table_name)
    elif isinstance(found, ops.AddColumnOp):
        yield bucketed.AddBucketedColumn(found.table_name, found.column)
    elif isinstance(found, ops.DropColumnOp):
        was = found.to_column() if found._reverse is not None else None  # noqa: SLF001
        yield bucketed.DropBucketedColumn(found.table_name, found.column_name, was)
    else:
        yield found


def _created(table: Table) -> bucketed.CreateBucketedTable:
    constraints = sorted(table.constraints, key=lambda it: (type(it).__name__, str(it.name)))
    indexes = sorted(table.indexes, key=lambda it: str(it.name))
    return bucketed.CreateBucketedTable(
        table.name, *table.columns, *constraints, *indexes, info=table.info
    )
