"""What a MetaData must be so that its rows can live in buckets: checked before anything is made.

A table is one of three kinds. *Bucketed*: ``tenant_id`` first in the primary key, and in every
unique constraint and foreign key. *Append-only*: bucketed, and partitioned by time inside the
bucket (``info={"tenantry": {"time": column}}``, of ``"interval"``, default ``"1 week"``), with the
time in its primary key and no foreign keys. *Reference*: the same on every shard
(``info={"tenantry": {"reference": True}}``).

A bucketed table may say how Postgres keeps it
(``info={"tenantry": {"storage": {"fillfactor": 80}}}``), and which of its columns a worker may read
of every tenant in order to find work (``{"worker": ("tenant_id", "due_at")}``).

A service names the package of its own revisions at the MetaData:
``MetaData(info={"tenantry": {"migrations": "service.migrations"}})``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKeyConstraint,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
)
from sqlalchemy.types import String

from tenantry_schema.errors import InvalidConfig, InvalidSchema
from tenantry_schema.naming import BUCKET_COLUMN, OPERATION_KEYS
from tenantry_schema.timing import Grid, Span

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.types import TypeEngine

TENANT_COLUMN = "tenant_id"
#: How long a time partition is where a table does not say it.
WEEKLY = "1 week"
_LONGEST = 50
_PARAMETER = re.compile(r"[a-z][a-z_]*(\.[a-z_]+)?\Z")


class TableKind(StrEnum):
    """Where a table's rows live."""

    BUCKETED = "bucketed"
    APPEND_ONLY = "append-only"
    REFERENCE = "reference"


@dataclass(frozen=True, slots=True)
class TableRule:
    """One table of a layout.

    :ivar time_column: the control column of an append-only table
    :ivar grid: where its time partitions begin and end
    :ivar storage: storage parameters of the bucket's table
    :ivar worker_columns: what the worker's role may read of every tenant's rows
    """

    table: Table
    kind: TableKind
    time_column: str | None = None
    grid: Grid | None = None
    storage: tuple[tuple[str, int | float], ...] = ()
    worker_columns: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The table's name."""
        return self.table.name


@dataclass(frozen=True, slots=True)
class Layout:
    """The tables of a service in the order of their foreign keys, and the type of their tenants.

    :ivar migrations: the package that holds the service's own revisions, or None
    """

    tables: tuple[TableRule, ...]
    key_type: str
    migrations: str | None = None

    @property
    def bucketed(self) -> tuple[TableRule, ...]:
        """The tables that every bucket has."""
        return tuple(rule for rule in self.tables if rule.kind != TableKind.REFERENCE)

    @property
    def references(self) -> tuple[TableRule, ...]:
        """The tables that are the same on every shard."""
        return tuple(rule for rule in self.tables if rule.kind == TableKind.REFERENCE)

    @classmethod
    def from_metadata(cls, metadata: MetaData) -> Layout:
        """Check a MetaData and return its layout.

        :raises InvalidSchema: naming the table, the column, the reason and the mend
        """
        rules = tuple(_rule(table) for table in metadata.sorted_tables)
        types: dict[str, str] = {}
        for rule in rules:
            _check_names(rule.table)
            if rule.kind != TableKind.REFERENCE:
                types[rule.name] = _check_bucketed(rule)
        if not types:
            raise InvalidSchema("the MetaData has no table with tenant_id first in its primary key")
        if len(set(types.values())) > 1:
            raise InvalidSchema(f"tenant_id must have one type in all tables, but has {types}")
        migrations = metadata.info.get("tenantry", {}).get("migrations")
        key_type = next(iter(types.values()))
        return cls((*rules, _operation_keys(key_type)), key_type, migrations)


def _operation_keys(key_type: str) -> TableRule:
    """Return the table of committed operations, which every bucket has beside a service's own.

    A key is inserted in the transaction that it names, so it is there exactly when that committed.
    """
    types: dict[str, TypeEngine[Any]] = {"uuid": Uuid(), "bigint": BigInteger(), "text": Text()}
    table = Table(
        OPERATION_KEYS,
        MetaData(),
        Column(TENANT_COLUMN, types[key_type], nullable=False),
        Column("key", Text, nullable=False),
        Column("at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        PrimaryKeyConstraint(TENANT_COLUMN, "key", name=f"{OPERATION_KEYS}_pkey"),
        CheckConstraint("length(key) BETWEEN 1 AND 200", name=f"{OPERATION_KEYS}_key_check"),
    )
    return TableRule(table, TableKind.BUCKETED)


def _rule(table: Table) -> TableRule:
    info = table.info.get("tenantry", {})
    if info.get("reference"):
        return TableRule(table, TableKind.REFERENCE)
    time_column = info.get("time")
    if time_column is None:
        return TableRule(
            table,
            TableKind.BUCKETED,
            storage=_storage(table, info),
            worker_columns=_worker_columns(table, info),
        )
    if "storage" in info or "worker" in info:
        raise _fault(table, "a table partitioned by time has neither storage nor worker columns")
    column = table.columns.get(time_column)
    if column is None or not isinstance(column.type, DateTime) or not column.type.timezone:
        raise _fault(table, f"time column {time_column!r} must be a DateTime(timezone=True)")
    if not column.primary_key:
        raise _fault(table, f"time column {time_column!r} must be part of the primary key")
    if table.foreign_key_constraints:
        raise _fault(table, "a table partitioned by time has no foreign keys: remove them")
    try:
        grid = Grid(Span.parse(info.get("interval", WEEKLY)))
    except InvalidConfig as error:
        raise _fault(table, f"its interval: {error}") from error
    return TableRule(table, TableKind.APPEND_ONLY, time_column, grid)


def _storage(table: Table, info: Mapping[str, Any]) -> tuple[tuple[str, int | float], ...]:
    given: Mapping[str, int | float] = info.get("storage", {})
    for name, value in given.items():
        if not _PARAMETER.match(name) or not isinstance(value, int | float):
            raise _fault(table, f"storage takes a parameter's name and a number, not {name!r}")
    return tuple(sorted(given.items()))


def _worker_columns(table: Table, info: Mapping[str, Any]) -> tuple[str, ...]:
    columns = tuple(info.get("worker", ()))
    for name in columns:
        if name not in table.columns:
            raise _fault(table, f"the worker may read {name!r}, which is no column")
    return columns


def _check_bucketed(rule: TableRule) -> str:
    table = rule.table
    key = [column.name for column in table.primary_key.columns]
    if not key or key[0] != TENANT_COLUMN:
        raise _fault(table, f"the primary key must begin with tenant_id, but is {key or 'missing'}")
    if BUCKET_COLUMN in table.columns:
        raise _fault(table, "a column named 'bucket' is made by tenantry: rename yours")
    for constraint in table.constraints:
        columns = [column.name for column in getattr(constraint, "columns", ())]
        if isinstance(constraint, UniqueConstraint) and TENANT_COLUMN not in columns:
            raise _fault(table, f"unique constraint on {columns} must contain tenant_id")
        if isinstance(constraint, ForeignKeyConstraint):
            _check_foreign_key(table, constraint)
    for index in table.indexes:
        if index.unique and TENANT_COLUMN not in [column.name for column in index.columns]:
            raise _fault(table, f"unique index {index.name} must contain tenant_id")
    for column in table.columns:
        if column.identity is not None or column.autoincrement is True:
            raise _fault(table, f"column {column.name!r} counts by itself: make ids in the client")
    return _key_type(table, table.columns[TENANT_COLUMN].type)


def _check_foreign_key(table: Table, constraint: ForeignKeyConstraint) -> None:
    target = constraint.referred_table
    if target.info.get("tenantry", {}).get("reference"):
        return
    pairs = [(element.parent.name, element.column.name) for element in constraint.elements]
    if (TENANT_COLUMN, TENANT_COLUMN) not in pairs:
        raise _fault(table, f"foreign key to {target.name} must pair tenant_id with tenant_id")
    for action in (constraint.ondelete, constraint.onupdate):
        if action and action.upper() in {"SET NULL", "SET DEFAULT"}:
            raise _fault(
                table, f"foreign key to {target.name}: ON … {action} would unset tenant_id"
            )


def _check_names(table: Table) -> None:
    if table.name == OPERATION_KEYS:
        raise _fault(table, "a table of this name is made by tenantry: rename yours")
    if table.schema is not None:
        raise _fault(table, f"no schema may be named, but it names {table.schema!r}: remove it")
    objects = [table.name, *(column.name for column in table.columns)]
    objects += [str(index.name) for index in table.indexes]
    objects += [str(it.name) for it in table.constraints if it.name is not None]
    for name in objects:
        if not name.isascii() or len(name) > _LONGEST or "\0" in name:
            raise _fault(table, f"name {name[:60]!r} must be ASCII of at most {_LONGEST} bytes")


def _key_type(table: Table, given: TypeEngine[object]) -> str:
    if isinstance(given, Uuid):
        return "uuid"
    if isinstance(given, BigInteger):
        return "bigint"
    if isinstance(given, Text | String):
        return "text"
    raise _fault(table, f"tenant_id must be Uuid, BigInteger or Text, not {given!r}")


def _fault(table: Table, what: str) -> InvalidSchema:
    return InvalidSchema(f"table {table.name!r}: {what}")
