"""Constraints of bucketed tables: added unproved, which is quick, and then proved beside writers.

Keys and foreign keys live inside the buckets; checks at the parent, from which buckets have them.
Source: Postgres documentation, ALTER TABLE, "Notes" on NOT VALID and VALIDATE CONSTRAINT.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic.operations import MigrateOperation, Operations
from psycopg import sql

from tenantry_schema.errors import InvalidSchema
from tenantry_schema.layout.checks import TENANT_COLUMN
from tenantry_schema.migrations.ops.indexes import CreateBucketedIndex, build
from tenantry_schema.migrations.ops.stage import parent, stage
from tenantry_schema.naming import FLEET

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tenantry_schema.migrations.ops.stage import Stage

_VALIDATED = """
SELECT convalidated FROM pg_catalog.pg_constraint
WHERE conname = %s AND conrelid = (
    SELECT oid FROM pg_catalog.pg_class
    WHERE relnamespace = %s::text::regnamespace AND relname = %s
)
"""
_ACTIONS = {None, "CASCADE", "RESTRICT", "NO ACTION"}


@Operations.register_operation("create_bucketed_unique")
class CreateBucketedUnique(MigrateOperation):
    """Add a unique constraint to a table of every bucket."""

    def __init__(self, name: str, table: str, columns: Sequence[str]) -> None:
        self.index = CreateBucketedIndex(name, table, columns, unique=True)

    @classmethod
    def create_bucketed_unique(
        cls, operations: Operations, name: str, table: str, columns: Sequence[str]
    ) -> None:
        """Add a unique constraint to a table of every bucket; its index is built concurrently.

        :raises InvalidSchema: without ``tenant_id``, or on a table that is partitioned by time
        """
        operations.invoke(cls(name, table, columns))


@Operations.register_operation("create_bucketed_foreign_key")
class CreateBucketedForeignKey(MigrateOperation):
    """Add a foreign key between two tables of every bucket."""

    def __init__(
        self,
        name: str,
        table: str,
        referent: str,
        columns: Sequence[str],
        referred: Sequence[str],
        *,
        ondelete: str | None = None,
    ) -> None:
        if (TENANT_COLUMN, TENANT_COLUMN) not in zip(columns, referred, strict=True):
            raise InvalidSchema(f"foreign key {name!r} must pair tenant_id with tenant_id")
        if ondelete not in _ACTIONS:
            raise InvalidSchema(f"foreign key {name!r}: ON DELETE {ondelete} would unset tenant_id")
        self.name = name
        self.table = table
        self.referent = referent
        self.columns = tuple(columns)
        self.referred = tuple(referred)
        self.ondelete = ondelete

    @classmethod
    def create_bucketed_foreign_key(
        cls,
        operations: Operations,
        name: str,
        table: str,
        referent: str,
        columns: Sequence[str],
        referred: Sequence[str],
        *,
        ondelete: str | None = None,
    ) -> None:
        """Add a foreign key between two tables of every bucket.

        :param columns: of ``table``, ``tenant_id`` among them
        :param referred: of ``referent``, in the same order
        :param ondelete: CASCADE, RESTRICT or NO ACTION
        :raises InvalidSchema: when it could leave the tenant
        """
        operations.invoke(cls(name, table, referent, columns, referred, ondelete=ondelete))


@Operations.register_operation("create_bucketed_check")
class CreateBucketedCheck(MigrateOperation):
    """Add a check to a table of every bucket."""

    def __init__(self, name: str, table: str, condition: str) -> None:
        self.name = name
        self.table = table
        self.condition = condition

    @classmethod
    def create_bucketed_check(
        cls, operations: Operations, name: str, table: str, condition: str
    ) -> None:
        """Add a check to a table of every bucket.

        :param condition: an expression in SQL, as written in the revision
        """
        operations.invoke(cls(name, table, condition))


@Operations.register_operation("drop_bucketed_constraint")
class DropBucketedConstraint(MigrateOperation):
    """Drop a constraint from a table of every bucket."""

    def __init__(self, name: str, table: str) -> None:
        self.name = name
        self.table = table

    @classmethod
    def drop_bucketed_constraint(cls, operations: Operations, name: str, table: str) -> None:
        """Drop a constraint of any kind from a table of every bucket."""
        operations.invoke(cls(name, table))


@Operations.implementation_for(CreateBucketedUnique)
def _unique(operations: Operations, operation: CreateBucketedUnique) -> None:
    wanted = operation.index
    with stage(operations) as here:
        for bucket in here.buckets():
            if here.kind(bucket.schema, wanted.table) == "p":
                raise InvalidSchema(
                    f"table {wanted.table!r} is partitioned by time: give it a unique index with "
                    "its time column instead of a unique constraint"
                )
            if _validated(here, bucket.schema, wanted.table, wanted.name) is None:
                build(here, wanted, bucket.schema)
                here.run(
                    sql.SQL(
                        "ALTER TABLE {} ADD CONSTRAINT {name} UNIQUE USING INDEX {name}"
                    ).format(
                        sql.Identifier(bucket.schema, wanted.table),
                        name=sql.Identifier(wanted.name),
                    )
                )


@Operations.implementation_for(CreateBucketedForeignKey)
def _foreign_key(operations: Operations, operation: CreateBucketedForeignKey) -> None:
    action = sql.SQL(f" ON DELETE {operation.ondelete}" if operation.ondelete else "")
    with stage(operations) as here:
        for bucket in here.buckets():
            body = sql.SQL("FOREIGN KEY ({}) REFERENCES {} ({}){}").format(
                _listed(operation.columns),
                sql.Identifier(bucket.schema, operation.referent),
                _listed(operation.referred),
                action,
            )
            _add(here, bucket.schema, operation.table, operation.name, body)


@Operations.implementation_for(CreateBucketedCheck)
def _check(operations: Operations, operation: CreateBucketedCheck) -> None:
    with stage(operations) as here:
        body = sql.SQL("CHECK ({})").format(sql.SQL(operation.condition))
        _add(here, FLEET, operation.table, operation.name, body)


@Operations.implementation_for(DropBucketedConstraint)
def _drop(operations: Operations, operation: DropBucketedConstraint) -> None:
    gone = sql.SQL("DROP CONSTRAINT IF EXISTS {}").format(sql.Identifier(operation.name))
    with stage(operations) as here:
        here.run(sql.SQL("ALTER TABLE {} {}").format(parent(operation.table), gone))
        for bucket in here.buckets():
            table = sql.Identifier(bucket.schema, operation.table)
            here.run(sql.SQL("ALTER TABLE {} {}").format(table, gone))


def _add(here: Stage, schema: str, table: str, name: str, body: sql.Composed) -> None:
    target, named = sql.Identifier(schema, table), sql.Identifier(name)
    validated = _validated(here, schema, table, name)
    if validated is None:
        here.run(
            sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {} NOT VALID").format(target, named, body)
        )
    if not validated:
        here.run(sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}").format(target, named))


def _validated(here: Stage, schema: str, table: str, name: str) -> bool | None:
    rows = here.ask(_VALIDATED, (name, schema, table))
    return rows[0][0] if rows else None


def _listed(names: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(name) for name in names)
