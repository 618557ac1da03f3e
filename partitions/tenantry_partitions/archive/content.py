"""Rows out of and into a table by COPY, and what the server says that a table holds."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from psycopg import sql

from tenantry_partitions.archive.columns import csv_of
from tenantry_partitions.archive.manifest import Content

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import psycopg

_GENERATED = """
SELECT attname::text FROM pg_catalog.pg_attribute
WHERE attrelid = to_regclass(%s) AND attgenerated <> ''
"""
_COLUMNS = """
SELECT attname::text, format_type(atttypid, atttypmod)
FROM pg_catalog.pg_attribute
WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped
ORDER BY attnum
"""
# The session prints values in one way only, whoever runs it: see `session.py`.
_CONTENT = """
SELECT count(*), coalesce(sum(hashtextextended(it::text, 0)), 0)::text FROM {} AS it
"""
_AT_ONCE = 16
_LONGEST = "SELECT coalesce(max(octet_length(it::text)), 0) FROM {} AS it"


def columns_of(conn: psycopg.Connection[Any], table: sql.Identifier) -> tuple[tuple[str, str], ...]:
    """Return names and types of a table's columns in their order."""
    found = conn.execute(_COLUMNS, (table.as_string(None),)).fetchall()
    return tuple((name, kind) for name, kind in found)


def generated_in(conn: psycopg.Connection[Any], table: sql.Identifier) -> frozenset[str]:
    """Return the columns that a table computes itself, and takes from nobody."""
    return frozenset(name for (name,) in conn.execute(_GENERATED, (table.as_string(None),)))


def content_of(conn: psycopg.Connection[Any], table: sql.Identifier) -> Content:
    """Return how many rows a table holds, and their digest."""
    found = conn.execute(sql.SQL(_CONTENT).format(table)).fetchone()
    assert found is not None
    return Content(*found)


def longest_row(conn: psycopg.Connection[Any], table: sql.Identifier) -> int:
    """Return how many bytes the longest row of a table has, as text."""
    found = conn.execute(sql.SQL(_LONGEST).format(table)).fetchone()
    assert found is not None
    return int(found[0])


class Rows:
    """A file of a table's rows as CSV, which is read once: pyarrow takes such a file."""

    def __init__(self, copy: psycopg.Copy) -> None:
        self._blocks = iter(copy)
        self._rest = b""
        self.closed = False

    @property
    def empty(self) -> bool:
        """Whether there is not one row."""
        if not self._rest:
            self._rest = self._some()
        return not self._rest

    def read(self, size: int = -1) -> bytes:
        """Return up to so many bytes; none at the end."""
        parts, held = [self._rest], len(self._rest)
        while held < size or size < 0:
            block = self._some()
            if not block:
                break
            parts.append(block)
            held += len(block)
        data = b"".join(parts)
        if size < 0:
            self._rest = b""
            return data
        self._rest = data[size:]
        return data[:size]

    def _some(self) -> bytes:
        # psycopg gives row by row: a loop over them would take as long as the server's work.
        return b"".join(islice(self._blocks, _AT_ONCE))

    def close(self) -> None:
        """Note that nothing more is wanted."""
        self.closed = True


def copy_out(table: sql.Identifier, columns: Sequence[tuple[str, str]]) -> sql.Composed:
    """Return the statement that gives a table's rows."""
    # A query, because a table's own COPY leaves generated columns out.
    names = _listed([name for name, _ in columns])
    return sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT (FORMAT csv)").format(names, table)


def copy_in(
    cursor: psycopg.Cursor[Any],
    table: sql.Identifier,
    names: Sequence[str],
    batches: Iterable[Any],
) -> None:
    """Write these columns of batches of rows into a table."""
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(table, _listed(names))
    with cursor.copy(statement) as copy:
        for batch in batches:
            copy.write(csv_of(batch.select(names)))


def _listed(names: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(name) for name in names)
