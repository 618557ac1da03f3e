"""One process at a time does one operation on a fleet; a killed one leaves nothing in the way.

The lock is a session's advisory lock on a direct connection to the catalog: Postgres frees it when
that process ends, however it ends. The row in ``operations`` is for people: it says what was begun.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg

from tenantry.conninfo import parse, shown
from tenantry_schema.errors import CatalogUnavailable, OperationInProgress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LOCK = "SELECT pg_try_advisory_lock(hashtext(%s), hashtext(%s))"
_HAS_TABLE = "SELECT to_regclass('tenantry.operations') IS NOT NULL"
_BEGIN = """
INSERT INTO tenantry.operations AS operation (kind, subject)
VALUES (%(kind)s, %(subject)s)
ON CONFLICT (kind, subject) WHERE state = 'running'
DO UPDATE SET started_at = excluded.started_at, step = 'resumed'
"""
_END = """
UPDATE tenantry.operations
SET state = %(state)s, error = %(error)s, updated_at = now(), finished_at = now()
WHERE kind = %(kind)s AND subject = %(subject)s AND state = 'running'
"""


def connect(conninfo: str) -> psycopg.Connection[tuple[object, ...]]:
    """Connect to the catalog directly.

    :raises CatalogUnavailable: when it does not answer
    """
    try:
        return psycopg.connect(conninfo, autocommit=True, connect_timeout=10)
    except psycopg.OperationalError as error:
        raise CatalogUnavailable(
            f"the catalog at {shown(parse(conninfo))} does not answer: check that it runs "
            "(`tenantry fleet up` starts an embedded one), and --catalog or TENANTRY_CATALOG; "
            f"{str(error).strip()}"
        ) from error


def take_lock(conn: psycopg.Connection[tuple[object, ...]], kind: str, subject: str) -> None:
    """Take an operation's lock, which its session holds until it ends.

    :raises OperationInProgress: when another process holds it
    """
    held = conn.execute(_LOCK, (f"tenantry {kind}", subject)).fetchone()
    if held != (True,):
        raise OperationInProgress(
            f"another process runs {kind} of {subject}: wait for it, or see "
            "tenantry.operations and pg_locks in the catalog"
        )


@contextmanager
def operation(catalog: str, kind: str, subject: str) -> Iterator[Callable[[], None]]:
    """Do an operation while no other process does it.

    What it gives enters the operation anew, for the first one, which makes the table itself.

    :raises OperationInProgress: when another process does
    """
    with connect(catalog) as conn:
        take_lock(conn, kind, subject)
        named: dict[str, str | None] = {"kind": kind, "subject": subject}
        _note(conn, _BEGIN, named)
        try:
            yield lambda: _note(conn, _BEGIN, named)
        except BaseException as error:
            _note(conn, _END, {**named, "state": "failed", "error": f"{type(error).__name__}"})
            raise
        _note(conn, _END, {**named, "state": "done", "error": None})


def _note(
    conn: psycopg.Connection[tuple[object, ...]], statement: str, values: dict[str, str | None]
) -> None:
    # The first init has a lock before it has a table.
    if conn.execute(_HAS_TABLE).fetchone() == (True,):
        conn.execute(statement.encode(), values)
