"""Operations on tables that every bucket has: ``op.create_bucketed_table(…)`` and the like.

Importing this registers them with Alembic. Each goes to every bucket of the shard in small steps of
its own, outside the revision's transaction, looks at what is there, and does only what is missing:
so a migration that was killed after any statement is completed by running it again.
"""

from __future__ import annotations

from tenantry_schema.migrations.ops.columns import AddBucketedColumn, DropBucketedColumn
from tenantry_schema.migrations.ops.constraints import (
    CreateBucketedCheck,
    CreateBucketedForeignKey,
    CreateBucketedUnique,
    DropBucketedConstraint,
)
from tenantry_schema.migrations.ops.indexes import CreateBucketedIndex, DropBucketedIndex
from tenantry_schema.migrations.ops.tables import CreateBucketedTable, DropBucketedTable

__all__ = [
    "AddBucketedColumn",
    "CreateBucketedCheck",
    "CreateBucketedForeignKey",
    "CreateBucketedIndex",
    "CreateBucketedTable",
    "CreateBucketedUnique",
    "DropBucketedColumn",
    "DropBucketedConstraint",
    "DropBucketedIndex",
    "DropBucketedTable",
]
