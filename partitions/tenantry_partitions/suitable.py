"""Which tables can be kept in time partitions, and why others cannot: pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tenantry_partitions.encoding import TYPES, Encoding, default_encoding
from tenantry_schema.errors import InvalidConfig, UnsuitableTable
from tenantry_schema.timing import format_moment

if TYPE_CHECKING:
    from tenantry_partitions.policy import Policy

_KINDS = {"r": "an ordinary table", "v": "a view", "m": "a materialized view", "f": "foreign"}
_STRATEGIES = {"l": "LIST", "h": "HASH"}
_LONGEST = 63


@dataclass(frozen=True, slots=True)
class TableFacts:
    """What the server says of a table that a policy names; see ``tables.sql``.

    :ivar key: the columns of its partition key
    :ivar column_type: the type of the control column, or None when there is no such column
    :ivar referring: foreign keys of other tables that refer to it
    :ivar references: its own foreign keys
    """

    schema: str
    table: str
    oid: int | None
    kind: str | None
    owner: str | None
    strategy: str | None
    key: tuple[str, ...]
    column_type: str | None
    not_null: bool | None
    referring: tuple[str, ...]
    references: tuple[str, ...]

    @property
    def name(self) -> str:
        """The table as people write it."""
        return f"{self.schema}.{self.table}"


def encoding_of(facts: TableFacts, policy: Policy) -> Encoding:
    """Return what the control column holds, of a table that suits its policy.

    :raises UnsuitableTable: naming the table, what is wrong with it and what to do
    """
    for problem in (
        _missing(facts),
        _parent(facts, policy),
        _column(facts, policy),
        _names(facts, policy),
    ):
        if problem is not None:
            raise UnsuitableTable(f"table {facts.name}: {problem}")
    if facts.referring:
        raise UnsuitableTable(
            f"table {facts.name}: foreign key {facts.referring[0]} refers to it, so that Postgres "
            "scans that table under lock at every detach, and refuses to drop partitions that are "
            "referred to: drop the constraint and keep the promise in the application"
        )
    assert facts.column_type is not None
    try:
        found = policy.encoding or default_encoding(facts.column_type)
    except InvalidConfig as error:
        raise UnsuitableTable(f"table {facts.name}, column {policy.control!r}: {error}") from error
    if facts.column_type not in TYPES[found]:
        raise UnsuitableTable(
            f"table {facts.name}: encoding {found} needs a column of type {TYPES[found][0]}, but "
            f"{policy.control!r} is {facts.column_type}"
        )
    return found


def _missing(facts: TableFacts) -> str | None:
    if facts.oid is None:
        return "there is no such table here: correct its name, or remove its policy"
    return None


def _parent(facts: TableFacts, policy: Policy) -> str | None:
    if facts.kind != "p":
        what = _KINDS.get(facts.kind or "", f"of kind {facts.kind}")
        return (
            f"it is {what}, not a partitioned table: make one PARTITION BY RANGE ({policy.control})"
        )
    if facts.strategy in _STRATEGIES:
        return (
            f"it is partitioned by {_STRATEGIES[facts.strategy]}: time partitions need RANGE "
            f"({policy.control}); name the partitions below it that are"
        )
    if facts.column_type is None:
        return f"it has no column {policy.control!r}: it is partitioned by {', '.join(facts.key)}"
    if facts.key != (policy.control,):
        return (
            f"it is partitioned by RANGE ({', '.join(facts.key)}), not by {policy.control!r} alone"
        )
    return None


def _column(facts: TableFacts, policy: Policy) -> str | None:
    if not facts.not_null:
        return (
            f"column {policy.control!r} may be NULL, and such a row has no partition: "
            "ALTER TABLE … ALTER COLUMN … SET NOT NULL"
        )
    return None


def _names(facts: TableFacts, policy: Policy) -> str | None:
    if not facts.table.isascii():
        return "its name is not ASCII, which pg_partman's versions cut differently: rename it"
    suffix = len("_p" + format_moment(policy.pattern, policy.grid.start(0)))
    # A set that pg_partman began keeps the names that it cut.
    if policy.names is None and len(facts.table) + suffix > _LONGEST:
        return (
            f"its name has {len(facts.table)} bytes, its partitions' would be cut at {_LONGEST}, "
            f"where two tables may meet: rename it to at most {_LONGEST - suffix} bytes"
        )
    return None
