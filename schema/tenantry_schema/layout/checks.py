"""What is asked of one table; each refusal names table, column, reason and mend."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import BigInteger, ForeignKeyConstraint, Table, Text, UniqueConstraint, Uuid
from sqlalchemy.exc import NoReferenceError
from sqlalchemy.types import String

from tenantry_schema.errors import InvalidSchema
from tenantry_schema.naming import BUCKET_COLUMN, OPERATION_KEYS

if TYPE_CHECKING:
    from sqlalchemy.types import TypeEngine

TENANT_COLUMN = "tenant_id"
_LONGEST = 50


def check_names(table: Table) -> None:
    """Refuse names that Postgres would cut off, and those that are tenantry's own."""
    if table.name == OPERATION_KEYS:
        raise fault(table, "a table of this name is made by tenantry: rename yours")
    if table.schema is not None:
        raise fault(table, f"no schema may be named, but it names {table.schema!r}: remove it")
    objects = [table.name, *(column.name for column in table.columns)]
    objects += [str(index.name) for index in table.indexes]
    objects += [str(it.name) for it in table.constraints if it.name is not None]
    for name in objects:
        if not name.isascii() or len(name) > _LONGEST or "\0" in name:
            raise fault(
                table, f"name {name[:60]!r} must be ASCII of at most {_LONGEST} bytes: rename it"
            )


def check_referred(table: Table) -> None:
    """Refuse foreign keys to tables or columns that the MetaData does not have."""
    for constraint in table.foreign_key_constraints:
        for element in constraint.elements:
            try:
                element.column  # noqa: B018  it is looked up when it is asked for
            except NoReferenceError as error:
                raise fault(
                    table,
                    f"foreign key to {element.target_fullname}, which the MetaData does not have: "
                    "declare it there, or remove the key",
                ) from error


def check_reference(table: Table) -> None:
    """Refuse foreign keys of a reference table into buckets, which are elsewhere."""
    for constraint in table.foreign_key_constraints:
        target = constraint.referred_table
        if not _is_reference(target):
            raise fault(
                table,
                f"a reference table is outside of the buckets, but has a foreign key to "
                f"{target.name}, which is inside: remove the key, or make {target.name} a "
                "reference table",
            )


def check_bucketed(table: Table) -> str:
    """Refuse a table whose rows cannot live in buckets; return the type of its tenants."""
    key = [column.name for column in table.primary_key.columns]
    if not key or key[0] != TENANT_COLUMN:
        raise fault(
            table,
            f"the primary key must begin with tenant_id, but is {key or 'missing'}: put tenant_id "
            "first, or make it a reference table if it is the same for everybody",
        )
    if BUCKET_COLUMN in table.columns:
        raise fault(table, "a column named 'bucket' is made by tenantry: rename yours")
    for constraint in table.constraints:
        columns = [column.name for column in getattr(constraint, "columns", ())]
        if isinstance(constraint, UniqueConstraint) and TENANT_COLUMN not in columns:
            raise fault(
                table,
                f"unique constraint on {columns} must contain tenant_id: put it first, values are "
                "unique within a tenant",
            )
        if isinstance(constraint, ForeignKeyConstraint):
            _check_foreign_key(table, constraint)
    for index in table.indexes:
        if index.unique and TENANT_COLUMN not in [column.name for column in index.columns]:
            raise fault(
                table,
                f"unique index {index.name} must contain tenant_id: put it first, values are "
                "unique within a tenant",
            )
    for column in table.columns:
        if column.identity is not None or column.autoincrement is True:
            raise fault(table, f"column {column.name!r} counts by itself: make ids in the client")
    return _key_type(table, table.columns[TENANT_COLUMN].type)


def fault(table: Table, what: str) -> InvalidSchema:
    """Return the refusal of a table."""
    return InvalidSchema(f"table {table.name!r}: {what}")


def _check_foreign_key(table: Table, constraint: ForeignKeyConstraint) -> None:
    target = constraint.referred_table
    if _is_reference(target):
        return
    pairs = [(element.parent.name, element.column.name) for element in constraint.elements]
    if (TENANT_COLUMN, TENANT_COLUMN) not in pairs:
        raise fault(
            table,
            f"foreign key on {[name for name, _ in pairs]} to {target.name} must pair tenant_id "
            "with tenant_id: put it first on both sides",
        )
    for event, action in (("DELETE", constraint.ondelete), ("UPDATE", constraint.onupdate)):
        if action and action.upper() in {"SET NULL", "SET DEFAULT"}:
            raise fault(
                table,
                f"foreign key to {target.name}: ON {event} {action} would unset tenant_id; take "
                "CASCADE or RESTRICT",
            )


def _key_type(table: Table, given: TypeEngine[object]) -> str:
    if isinstance(given, Uuid):
        return "uuid"
    if isinstance(given, BigInteger):
        return "bigint"
    if isinstance(given, Text | String):
        return "text"
    raise fault(
        table, f"tenant_id must be Uuid, BigInteger or Text, not {given!r}: declare it as one"
    )


def _is_reference(table: Table) -> bool:
    return bool(table.info.get("tenantry", {}).get("reference"))
