"""Drive a :data:`~tenantry_schema.query.Work` over a connection, in either colour.

An error of the database is thrown into the generator, so that a work may answer it (and so that its
``finally`` blocks run); a work that does not catch it lets it through unchanged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from psycopg import AsyncConnection, Connection
    from psycopg._cursor_base import BaseCursor

    from tenantry_schema.query import Query, Row, Work

T = TypeVar("T")


def drive(conn: Connection[Any], work: Work[T]) -> T:
    """Run a work to its end and return its result.

    :param conn: the connection, already inside its transaction
    :param work: a fresh generator
    """
    try:
        query = next(work)
        while True:
            try:
                rows = _execute(conn, query)
            except Exception as error:
                query = work.throw(error)
            else:
                query = work.send(rows)
    except StopIteration as stop:
        result: T = stop.value
        return result


async def adrive(conn: AsyncConnection[Any], work: Work[T]) -> T:
    """Run a work to its end on an async connection and return its result."""
    try:
        query = next(work)
        while True:
            try:
                rows = await _aexecute(conn, query)
            except Exception as error:
                query = work.throw(error)
            else:
                query = work.send(rows)
    except StopIteration as stop:
        result: T = stop.value
        return result


def _execute(conn: Connection[Any], query: Query) -> list[Row]:
    cursor = conn.execute(query.text, query.params, prepare=query.prepare)
    return cursor.fetchall() if _has_rows(cursor) else []


async def _aexecute(conn: AsyncConnection[Any], query: Query) -> list[Row]:
    cursor = await conn.execute(query.text, query.params, prepare=query.prepare)
    return await cursor.fetchall() if _has_rows(cursor) else []


def _has_rows(cursor: BaseCursor[Any, Any]) -> bool:
    """Say whether a statement has a result set: a description is made anew whenever it is asked."""
    return cursor.pgresult is not None and cursor.pgresult.nfields > 0
