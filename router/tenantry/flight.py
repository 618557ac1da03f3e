"""Messages that travel together, in libpq's pipeline mode, and their answers as they arrive.

psycopg's own generators give the interpreter's lock away twice for every result. That is right for
one long wait, and costs many short ones for the results of a flight, which come all at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, ExecStatus
from psycopg.waiting import Ready, Wait

if TYPE_CHECKING:
    from psycopg.abc import PQGen
    from psycopg.pq.abc import PGconn, PGresult


def depart(pgconn: PGconn) -> PQGen[None]:
    """Hand everything that was sent to the socket."""
    while pgconn.flush():
        if (yield Wait.RW) & Ready.R:
            pgconn.consume_input()


def arrive(pgconn: PGconn) -> PQGen[PGresult | None]:
    """Return the next result, or None after the last one of a statement.

    :raises psycopg.OperationalError: when the connection ended before
    """
    while pgconn.is_busy():
        if (yield Wait.R):
            pgconn.consume_input()
    return pgconn.get_result()


def land(
    pgconn: PGconn, statements: int, *, following: bool, commits: bool
) -> PQGen[list[PGresult]]:
    """Let a flight go; return the result of each of its statements, and leave pipeline mode.

    A server that ends the session may say why before: then its last word is the last result.

    :param following: whether it follows another one, whose answers are for nobody
    :param commits: whether a COMMIT's flight comes after it, which is left in the air unless a
        statement failed: then it can only roll back
    :raises psycopg.OperationalError: when the connection ended without a word
    """
    landed: list[PGresult] = []
    try:
        yield from depart(pgconn)
        if following:
            yield from _until_sync(pgconn)
        for _ in range(statements):
            while (result := (yield from arrive(pgconn))) is not None:
                landed.append(result)
        if not commits or _failed(landed):
            yield from drain(pgconn, 1 + commits)
    except psycopg.OperationalError:
        if not _failed(landed):
            raise
    return landed


def refusal(pgconn: PGconn, result: PGresult) -> psycopg.Error:
    """Return the error that a result carries."""
    return error_from_result(result, encoding=pgconn._encoding)  # noqa: SLF001  psycopg's own way


def drain(pgconn: PGconn, syncs: int = 1) -> PQGen[None]:
    """Read flights to their end, whatever they bring, so that the connection may be used again.

    :raises psycopg.OperationalError: when the connection ended before
    """
    for _ in range(syncs):
        yield from _until_sync(pgconn)
    pgconn.exit_pipeline_mode()


def _failed(landed: list[PGresult]) -> bool:
    return any(it.status == ExecStatus.FATAL_ERROR for it in landed)


def _until_sync(pgconn: PGconn) -> PQGen[None]:
    while True:
        result = yield from arrive(pgconn)
        if result is not None and result.status == ExecStatus.PIPELINE_SYNC:
            return
        if pgconn.status != ConnStatus.OK:
            raise psycopg.OperationalError("the connection ended within a flight")
