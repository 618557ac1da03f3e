"""Statements as values, and flows of statements as generators of them.

A door (sync or async) drives a :data:`Work`; the text of the logic is written once and has no
colour. ``Work`` never names a connection, a shard or a bucket: the door has chosen them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from psycopg import sql

T = TypeVar("T")

Row: TypeAlias = tuple[Any, ...]
#: SQL that was composed, ready for a connection.
Statement: TypeAlias = sql.SQL | sql.Composed

Params: TypeAlias = Sequence[Any] | Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Query:
    """One statement and its parameters.

    :param text: SQL with psycopg placeholders (``%s`` or ``%(name)s``); identifiers by
        :class:`psycopg.sql.Identifier` only
    :param params: the parameters, or None
    :param prepare: None lets psycopg decide, False forbids a server-side prepared statement
    :param last: nothing is asked after it, so its COMMIT may travel along; a call that is cut off
        while it waits for the answer cannot tell whether it happened, and what the work raises
        after it takes nothing back. What was declared to be a read has no COMMIT then
    """

    text: str | Statement
    params: Params = None
    prepare: bool | None = None
    last: bool = False


#: Yields queries, is sent each result's rows, and returns the result of the whole.
#: A statement without a result set sends an empty list.
Work: TypeAlias = Generator[Query, list[Row], T]

#: What ``router.run`` takes: called anew for each attempt, because a generator runs once.
WorkFactory: TypeAlias = Callable[[], Work[T]]


def one(query: Query) -> Work[Row | None]:
    """Run a query and return its first row, or None."""
    rows = yield query
    return rows[0] if rows else None


def every(query: Query) -> Work[list[Row]]:
    """Run a query and return all its rows."""
    rows = yield query
    return rows


def each(queries: Sequence[Query]) -> Work[list[Row]]:
    """Run queries one after the other and return the rows of all."""
    found: list[Row] = []
    for query in queries:
        rows = yield query
        found += rows
    return found
