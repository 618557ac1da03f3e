"""Where an operation runs: a shard's buckets, and statements that commit at once."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg import sql

from tenantry_schema.naming import FLEET, parse_bucket_schema

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from alembic.operations import Operations
    from sqlalchemy import Connection

    from tenantry_schema.query import Row, Statement

#: Waiting for a lock makes every later writer of the table wait behind it.
SHORT_LOCK = "200ms"
#: Building an index waits for older transactions, but holds no writer up while it does.
LONG_LOCK = "60s"

_SCHEMAS = r"""
SELECT nspname FROM pg_catalog.pg_namespace
WHERE nspname ~ '^bucket_[0-9]{4,}(_g[0-9]+)?$'
ORDER BY nspname
"""
_RELATION = """
SELECT relkind::text FROM pg_catalog.pg_class
WHERE relnamespace = %s::text::regnamespace AND relname = %s
"""
_CHILDREN = """
SELECT child.relname::text FROM pg_catalog.pg_inherits
JOIN pg_catalog.pg_class AS child ON child.oid = inhrelid
WHERE inhparent = (
    SELECT oid FROM pg_catalog.pg_class
    WHERE relnamespace = %s::text::regnamespace AND relname = %s
)
ORDER BY child.relname
"""


@dataclass(frozen=True, slots=True)
class BucketSchema:
    """A bucket that a shard holds."""

    schema: str
    number: int


class Stage:
    """A connection on which every statement commits at once."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def run(self, *statements: Statement) -> None:
        """Send statements in one message, which is one transaction."""
        text = sql.SQL(";\n").join(statements).as_string(None)
        self._connection.exec_driver_sql(text.replace("%", "%%"))

    def run_long(self, statement: Statement) -> None:
        """Run a statement that waits for others without holding writers up."""
        self._lock_timeout(LONG_LOCK)
        try:
            self.run(statement)
        finally:
            self._lock_timeout(SHORT_LOCK)

    def ask(self, query: str, params: Sequence[Any] = ()) -> list[Row]:
        """Return the rows of a query."""
        return [tuple(row) for row in self._connection.exec_driver_sql(query, tuple(params))]

    def buckets(self) -> list[BucketSchema]:
        """Return the buckets of this shard in the order of their names."""
        found = ((name, parse_bucket_schema(name)) for (name,) in self.ask(_SCHEMAS))
        return [BucketSchema(name, parsed[0]) for name, parsed in found if parsed is not None]

    def kind(self, schema: str, name: str) -> str | None:
        """Return the kind of a relation: ``r`` table, ``p`` partitioned, or None."""
        rows = self.ask(_RELATION, (schema, name))
        return rows[0][0] if rows else None

    def children(self, schema: str, table: str) -> list[str]:
        """Return the partitions of a bucket's table, which lie in the bucket's schema."""
        return [name for (name,) in self.ask(_CHILDREN, (schema, table))]

    def _lock_timeout(self, value: str) -> None:
        self._connection.exec_driver_sql(f"SET lock_timeout = '{value}'")


@contextmanager
def stage(operations: Operations) -> Iterator[Stage]:
    """Leave the revision's transaction for the time of one operation."""
    context = operations.get_context()
    if context.as_sql:
        raise NotImplementedError(
            "operations on bucketed tables look at the buckets of a shard: they have no SQL script"
        )
    with context.autocommit_block():
        connection = context.connection
        assert connection is not None
        yield Stage(connection)


def parent(table: str) -> sql.Identifier:
    """Return the name of a table's parent."""
    return sql.Identifier(FLEET, table)
