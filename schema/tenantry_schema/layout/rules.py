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
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    Uuid,
    func,
)

from tenantry_schema.errors import InvalidConfig, InvalidSchema
from tenantry_schema.layout.checks import (
    TENANT_COLUMN,
    check_bucketed,
    check_names,
    check_reference,
    check_referred,
    fault,
)
from tenantry_schema.naming import OPERATION_KEYS
from tenantry_schema.timing import Grid, Span

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.types import TypeEngine

#: How long a time partition is where a table does not say it.
WEEKLY = "1 week"
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
        for table in metadata.tables.values():
            check_names(table)
            check_referred(table)
        rules = tuple(_rule(table) for table in metadata.sorted_tables)
        types: dict[str, str] = {}
        for rule in rules:
            if rule.kind == TableKind.REFERENCE:
                check_reference(rule.table)
            else:
                types[rule.name] = check_bucketed(rule.table)
        if not types:
            raise InvalidSchema(
                "the MetaData has no table with tenant_id first in its primary key: declare one, "
                "or name the MetaData that has them"
            )
        if len(set(types.values())) > 1:
            raise InvalidSchema(
                f"tenant_id must have one type in all tables, but has {types}: declare it alike"
            )
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
        raise fault(
            table,
            "a table partitioned by time has neither storage nor worker columns: take them out of "
            "its info",
        )
    column = table.columns.get(time_column)
    if column is None or not isinstance(column.type, DateTime) or not column.type.timezone:
        raise fault(
            table,
            f"time column {time_column!r} must be a DateTime(timezone=True): declare it so, or "
            "name another one in its info",
        )
    if not column.primary_key:
        raise fault(
            table,
            f"time column {time_column!r} must be part of the primary key: add it behind tenant_id",
        )
    if table.foreign_key_constraints:
        raise fault(table, "a table partitioned by time has no foreign keys: remove them")
    try:
        grid = Grid(Span.parse(info.get("interval", WEEKLY)))
    except InvalidConfig as error:
        raise fault(table, f"its interval: {error}") from error
    return TableRule(table, TableKind.APPEND_ONLY, time_column, grid)


def _storage(table: Table, info: Mapping[str, Any]) -> tuple[tuple[str, int | float], ...]:
    given: Mapping[str, int | float] = info.get("storage", {})
    for name, value in given.items():
        if not _PARAMETER.match(name) or not isinstance(value, int | float):
            raise fault(
                table,
                f"storage takes a parameter's name and a number, not {name!r}: {value!r}; write "
                "such as {'fillfactor': 80}",
            )
    return tuple(sorted(given.items()))


def _worker_columns(table: Table, info: Mapping[str, Any]) -> tuple[str, ...]:
    columns = tuple(info.get("worker", ()))
    for name in columns:
        if name not in table.columns:
            raise fault(
                table,
                f"the worker may read {name!r}, which is no column: correct its name in the info",
            )
    return columns
