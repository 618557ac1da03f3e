"""The statements of each step: pure. Identifiers are quoted, bounds are literals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

from tenantry_partitions.encoding import Encoding, encode

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime
    from typing import LiteralString

    from tenantry_partitions.coverage import Range
    from tenantry_schema.query import Statement

_COMMANDS = {"*": "ALL", "r": "SELECT", "a": "INSERT", "w": "UPDATE", "d": "DELETE"}


@dataclass(frozen=True, slots=True)
class RowSecurity:
    """A table's row-level security, which a partition does not inherit: see ``row_security.sql``.

    :ivar policies: (name, permissive, command, roles, USING, WITH CHECK) as Postgres keeps them
    """

    enabled: bool
    forced: bool
    policies: tuple[tuple[str, bool, str, Sequence[str], str | None, str | None], ...]


def create_like(
    parent: sql.Identifier, child: sql.Identifier, security: RowSecurity
) -> list[Statement]:
    """Return what makes a table that may become a partition, with the parent's row security."""
    made: list[Statement] = [
        # An identity of its own would count by itself, or be refused by later versions.
        sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL EXCLUDING IDENTITY)").format(child, parent)
    ]
    if security.enabled:
        made.append(sql.SQL("ALTER TABLE {} ENABLE ROW LEVEL SECURITY").format(child))
    if security.forced:
        made.append(sql.SQL("ALTER TABLE {} FORCE ROW LEVEL SECURITY").format(child))
    made.extend(_policy(child, *it) for it in security.policies)
    return made


def attach(
    parent: sql.Identifier, child: sql.Identifier, span: Range, encoding: Encoding
) -> Statement:
    """Return what attaches a partition."""
    return sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(
        parent, child, *(_bound(it, encoding) for it in span)
    )


def attach_default(parent: sql.Identifier, child: sql.Identifier) -> Statement:
    """Return what attaches a default partition."""
    return sql.SQL("ALTER TABLE {} ATTACH PARTITION {} DEFAULT").format(parent, child)


def rename(table: sql.Identifier, name: str) -> Statement:
    """Return what gives a table another name in its schema."""
    return sql.SQL("ALTER TABLE {} RENAME TO {}").format(table, sql.Identifier(name))


def create_partition(
    parent: sql.Identifier, child: sql.Identifier, span: Range, encoding: Encoding
) -> Statement:
    """Return what makes a partition of a table that nobody uses yet: it locks the table."""
    return sql.SQL("CREATE TABLE {} PARTITION OF {} FOR VALUES FROM ({}) TO ({})").format(
        child, parent, *(_bound(it, encoding) for it in span)
    )


def detach(parent: sql.Identifier, child: sql.Identifier, how: str = "") -> Statement:
    """Return what detaches a partition: plainly, CONCURRENTLY, or by FINALIZE."""
    return sql.SQL("ALTER TABLE {} DETACH PARTITION {} {}").format(parent, child, sql.SQL(how))


def comment(table: sql.Identifier, text: str | None) -> Statement:
    """Return what sets a table's comment, or takes it away."""
    return sql.SQL("COMMENT ON TABLE {} IS {}").format(table, sql.Literal(text))


def lock(table: sql.Identifier) -> Statement:
    """Return what keeps everybody away from a table until the transaction ends."""
    return sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(table)


def drop(table: sql.Identifier) -> Statement:
    """Return what drops a table, and nothing that depends on it."""
    return sql.SQL("DROP TABLE {}").format(table)


def keep_out(control: str, span: Range, encoding: Encoding) -> sql.Composed:
    """Return the condition that no row lies in a range."""
    return sql.SQL("NOT {}").format(keep_in(control, span, encoding))


def keep_in(control: str, span: Range, encoding: Encoding) -> sql.Composed:
    """Return the condition that every row lies in a range."""
    start, end = (_bound(it, encoding) for it in span)
    return sql.SQL("({it} >= {} AND {it} < {})").format(start, end, it=sql.Identifier(control))


def first_and_last(
    table: sql.Identifier, control: str, limit: datetime, encoding: Encoding, side: LiteralString
) -> sql.Composed:
    """Return what reads the first and the last value on one side of a moment, by an index.

    :param side: ``<`` or ``>=``
    """
    # ORDER BY, because servers before 18 know no min() of a uuid.
    half = sql.SQL("(SELECT {it} FROM {} WHERE {it} {} {} ORDER BY {it} {} LIMIT 1)::text")
    column, bound = sql.Identifier(control), _bound(limit, encoding)
    return sql.SQL("SELECT {}, {}").format(
        *(
            half.format(table, sql.SQL(side), bound, sql.SQL(order), it=column)
            for order in ("ASC", "DESC")
        )
    )


def add_check(table: sql.Identifier, name: str, condition: sql.Composed) -> Statement:
    """Return what adds a CHECK for new rows only, which takes no scan."""
    return sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} CHECK ({}) NOT VALID").format(
        table, sql.Identifier(name), condition
    )


def validate_check(table: sql.Identifier, name: str) -> Statement:
    """Return what proves a CHECK, beside readers and writers."""
    return sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}").format(table, sql.Identifier(name))


def drop_checks(table: sql.Identifier, names: Iterable[str]) -> Statement:
    """Return what drops CHECKs that are there or not."""
    gone = (sql.SQL("DROP CONSTRAINT IF EXISTS {}").format(sql.Identifier(it)) for it in names)
    return sql.SQL("ALTER TABLE {} {}").format(table, sql.SQL(", ").join(gone))


def _bound(moment: datetime, encoding: Encoding) -> sql.Literal:
    return sql.Literal(encode(moment, encoding))


def _policy(  # noqa: PLR0913, PLR0917  the parts of a policy
    table: sql.Identifier,
    name: str,
    permissive: bool,  # noqa: FBT001  as Postgres keeps it
    command: str,
    roles: Sequence[str],
    using: str | None,
    check: str | None,
) -> Statement:
    made = sql.SQL("CREATE POLICY {} ON {} AS {} FOR {} TO {}").format(
        sql.Identifier(name),
        table,
        sql.SQL("PERMISSIVE" if permissive else "RESTRICTIVE"),
        sql.SQL(_COMMANDS[command]),
        # No role at all is how Postgres keeps PUBLIC.
        sql.SQL(", ").join(map(sql.Identifier, roles)) if roles else sql.SQL("PUBLIC"),
    )
    if using is not None:
        made += sql.SQL(" USING ({})").format(sql.SQL(using))
    if check is not None:
        made += sql.SQL(" WITH CHECK ({})").format(sql.SQL(check))
    return made
