"""Drive a :data:`~tenantry_schema.query.Work` over a connection, in either colour.

An error of the database is thrown into the generator, so that a work may answer it (and so that its
``finally`` blocks run); a work that does not catch it lets it through unchanged. An error of a last
query, whose COMMIT travelled along, is nobody's to answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from tenantry_schema.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from psycopg import AsyncConnection, AsyncCursor, Connection, Cursor
    from psycopg._cursor_base import BaseCursor

    from tenantry_schema.query import Query, Row, Work

T = TypeVar("T")


def drive(
    conn: Connection[Any],
    work: Work[T],
    conclude: Callable[[Query], list[Row]] | None = None,
) -> T:
    """Run a work to its end and return its result.

    :param conn: the connection, already inside its transaction
    :param work: a fresh generator
    :param conclude: runs a last query and commits; without it whoever opened the transaction does
    :raises InvalidInput: when the work goes on after its last query
    """
    try:
        query = next(work)
        while True:
            if query.last and conclude is not None:
                # Its error is the call's: nothing is left that a work could answer it with.
                rows = conclude(query)
            else:
                try:
                    rows = _execute(conn, query)
                except Exception as error:
                    query = _after(query, work.throw(error))
                    continue
            query = _after(query, work.send(rows))
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        work.close()


async def adrive(
    conn: AsyncConnection[Any],
    work: Work[T],
    conclude: Callable[[Query], Awaitable[list[Row]]] | None = None,
) -> T:
    """Run a work to its end on an async connection, as :func:`drive` does."""
    try:
        query = next(work)
        while True:
            if query.last and conclude is not None:
                # Its error is the call's: nothing is left that a work could answer it with.
                rows = await conclude(query)
            else:
                try:
                    rows = await _aexecute(conn, query)
                except Exception as error:
                    query = _after(query, work.throw(error))
                    continue
            query = _after(query, work.send(rows))
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        work.close()


def _after(former: Query, query: Query) -> Query:
    if former.last:
        raise InvalidInput(
            f"a work goes on after a query that it called its last, with {query.text!r:.80}: what "
            "came before may be committed; leave out last=True"
        )
    return query


def _execute(conn: Connection[Any], query: Query) -> list[Row]:
    return rows_of(conn.execute(query.text, query.params, prepare=query.prepare))


async def _aexecute(conn: AsyncConnection[Any], query: Query) -> list[Row]:
    return await arows_of(await conn.execute(query.text, query.params, prepare=query.prepare))


def rows_of(cursor: Cursor[Any]) -> list[Row]:
    """Return the rows of a statement, none where it has no result set."""
    return cursor.fetchall() if _has_rows(cursor) else []


async def arows_of(cursor: AsyncCursor[Any]) -> list[Row]:
    """Return the rows of a statement of an async connection, as :func:`rows_of` does."""
    return await cursor.fetchall() if _has_rows(cursor) else []


def _has_rows(cursor: BaseCursor[Any, Any]) -> bool:
    # A description would be made anew each time it is asked for.
    return cursor.pgresult is not None and cursor.pgresult.nfields > 0
