"""Read what tables look like from the server's catalog: many tables in three statements."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from psycopg import errors, sql

from tenantry_partitions.encoding import Encoding, decode_range, decode_value
from tenantry_partitions.guards import GUARD, PROMOTION, guarded_range
from tenantry_partitions.marker import Marker
from tenantry_partitions.session import database_time
from tenantry_partitions.sql import load
from tenantry_partitions.state import Default, Partition, Retired, TableState
from tenantry_partitions.statements import first_and_last
from tenantry_partitions.suitable import TableFacts, encoding_of
from tenantry_schema.errors import RolloverFailed, UnsuitableTable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from typing import LiteralString

    import psycopg

    from tenantry_partitions.coverage import Range
    from tenantry_partitions.policy import Policy

_DEFAULT = "DEFAULT"
_PAUSES = (0.1, 0.3, 0.9)


@dataclass(frozen=True, slots=True)
class Inspected:
    """A table as it is.

    :ivar oid: of the table, for statements about it
    :ivar owner: the role that its partitions are to belong to
    :ivar schemas: where partitions lie that do not lie in the table's schema
    """

    oid: int
    owner: str
    policy: Policy
    encoding: Encoding
    state: TableState
    schemas: Mapping[str, str]


#: (schema, table) of a table.
Target = tuple[str, str]
#: Why a table is not kept: it does not suit, or it could not be looked at.
Refusal: TypeAlias = UnsuitableTable | RolloverFailed


def inspect(
    conn: psycopg.Connection[Any], policies: Mapping[Target, Policy]
) -> dict[Target, Inspected | Refusal]:
    """Return each table as it is, or why it cannot be kept in time partitions or be looked at."""
    try:
        return _inspected(conn, policies)
    except errors.Error as error:
        if conn.closed:
            raise
        if len(policies) == 1:
            return _tried_again(conn, policies, error)
        # One table that is locked or forbidden keeps no other from being seen.
        one, other = _halves(policies)
        return inspect(conn, one) | inspect(conn, other)


def _halves(policies: Mapping[Target, Policy]) -> tuple[dict[Target, Policy], ...]:
    items, middle = list(policies.items()), len(policies) // 2
    return dict(items[:middle]), dict(items[middle:])


def _tried_again(
    conn: psycopg.Connection[Any], policies: Mapping[Target, Policy], error: errors.Error
) -> dict[Target, Inspected | Refusal]:
    """Look at one table once more and again: most locks are short."""
    for pause in _PAUSES:
        if isinstance(error, errors.LockNotAvailable):
            time.sleep(pause)
            try:
                return _inspected(conn, policies)
            except errors.Error as again:
                error = again
    return {target: _unseen(target, error) for target in policies}


def _unseen(target: Target, error: errors.Error) -> RolloverFailed:
    return RolloverFailed(
        f"{'.'.join(target)}: it cannot be looked at ({str(error).splitlines()[0]}, SQLSTATE "
        f"{error.sqlstate}): mend the reason, or wait for who holds its lock, and run it again"
    )


def _inspected(
    conn: psycopg.Connection[Any], policies: Mapping[Target, Policy]
) -> dict[Target, Inspected | Refusal]:
    found: dict[Target, Inspected | Refusal] = {}
    suited: dict[int, tuple[TableFacts, Policy, Encoding]] = {}
    for facts in _facts(conn, policies):
        target = (facts.schema, facts.table)
        try:
            encoding = encoding_of(facts, policies[target])
        except UnsuitableTable as error:
            found[target] = error
        else:
            assert facts.oid is not None
            suited[facts.oid] = facts, policies[target], encoding
    children = _children(conn, list(suited))
    leftovers = _leftovers(conn, sorted({facts.schema for facts, _, _ in suited.values()}))
    for oid, (facts, policy, encoding) in suited.items():
        assert facts.owner is not None
        state = _state(conn, facts, encoding, policy, children[oid], leftovers[facts.schema])
        places = {it.name: it.schema for it in children[oid] if it.schema != facts.schema}
        target = (facts.schema, facts.table)
        found[target] = Inspected(oid, facts.owner, policy, encoding, state, places)
    return found


def inspect_one(conn: psycopg.Connection[Any], target: Target, policy: Policy) -> Inspected:
    """Return one table as it is.

    :raises UnsuitableTable: when it cannot be kept in time partitions
    :raises RolloverFailed: when it cannot be looked at
    """
    found = inspect(conn, {target: policy})[target]
    if not isinstance(found, Inspected):
        raise found
    return found


@dataclass(frozen=True, slots=True)
class _Child:
    schema: str
    name: str
    bound: str
    pending: bool
    used: bool
    comment: str | None
    checks: tuple[str, ...]


def _facts(conn: psycopg.Connection[Any], policies: Mapping[Target, Policy]) -> list[TableFacts]:
    rows = conn.execute(
        load("tables"),
        {
            "schemas": [schema for schema, _ in policies],
            "tables": [table for _, table in policies],
            "controls": [policy.control for policy in policies.values()],
        },
    )
    return [
        TableFacts(
            schema,
            table,
            oid,
            kind,
            owner,
            strategy,
            tuple(key),
            column_type,
            not_null,
            tuple(referring),
            tuple(references),
        )
        for (
            schema,
            table,
            oid,
            kind,
            owner,
            strategy,
            key,
            column_type,
            not_null,
            referring,
            references,
        ) in rows
    ]


def _children(conn: psycopg.Connection[Any], parents: list[int]) -> dict[int, list[_Child]]:
    found: dict[int, list[_Child]] = defaultdict(list)
    rows = conn.execute(load("children"), {"parents": parents})
    for parent, schema, name, bound, pending, used, comment, checks in rows:
        found[parent].append(_Child(schema, name, bound, pending, used, comment, tuple(checks)))
    return found


def _leftovers(
    conn: psycopg.Connection[Any], schemas: list[str]
) -> dict[str, dict[str, Marker | None]]:
    found: dict[str, dict[str, Marker | None]] = defaultdict(dict)
    for schema, name, comment in conn.execute(load("leftovers"), {"schemas": schemas}):
        found[schema][name] = Marker.read(comment)
    return found


def _state(  # noqa: PLR0913, PLR0917  what the three statements told
    conn: psycopg.Connection[Any],
    facts: TableFacts,
    encoding: Encoding,
    policy: Policy,
    children: Sequence[_Child],
    leftovers: Mapping[str, Marker | None],
) -> TableState:
    ours = {
        name: it for name, it in leftovers.items() if it is not None and it.table == facts.table
    }
    ranged = [(it, decode_range(it.bound, encoding)) for it in children if it.bound != _DEFAULT]
    default = next((it for it in children if it.bound == _DEFAULT), None)
    return TableState(
        facts.schema,
        facts.table,
        partitions=tuple(_partition(it, span) for it, span in ranged if span is not None),
        retired=tuple(
            Retired(it.start, it.end, name, it.then, it.archive is not None)
            for name, it in ours.items()
        ),
        default=None if default is None else _default(conn, default, encoding, policy),
        unreadable=tuple(it.name for it, span in ranged if span is None),
        taken=frozenset(leftovers.keys() - ours.keys() - {it.name for it in children}),
        references=facts.references,
    )


def _partition(child: _Child, span: Range) -> Partition:
    marker = Marker.read(child.comment)
    then = None if marker is None else marker.then
    return Partition(*span, child.name, child.pending, child.used, then)


def _default(
    conn: psycopg.Connection[Any], child: _Child, encoding: Encoding, policy: Policy
) -> Default:
    before = beyond = None
    if child.used:
        limit = policy.horizon(database_time(conn))
        before, beyond = (
            _rows(conn, child, encoding, policy.control, limit, side) for side in ("<", ">=")
        )
    return Default(
        child.name,
        before,
        beyond,
        guard=_guard(child.checks, validated=True),
        unproved=_guard(child.checks, validated=False),
        promoting=tuple(span for it in child.checks if (span := _promotion(it)) is not None),
    )


def _rows(  # noqa: PLR0913, PLR0917  where, and on which side of what
    conn: psycopg.Connection[Any],
    child: _Child,
    encoding: Encoding,
    control: str,
    limit: datetime,
    side: LiteralString,
) -> Range | None:
    place = sql.Identifier(child.schema, child.name)
    found = conn.execute(first_and_last(place, control, limit, encoding, side)).fetchone()
    assert found is not None
    if found[0] is None:
        return None
    return decode_value(found[0], encoding), decode_value(found[1], encoding)


def _promotion(check: str) -> Range | None:
    return guarded_range(check.rpartition(":")[0], PROMOTION)


def _guard(checks: Sequence[str], *, validated: bool) -> Range | None:
    for check in checks:
        name, _, proved = check.rpartition(":")
        span = guarded_range(name, GUARD)
        if span is not None and (proved == "true") == validated:
            return span
    return None
