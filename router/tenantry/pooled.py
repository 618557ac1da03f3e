"""Find out whether statements stay prepared behind a pooler.

That is seen, not inferred from a version: a pooler that keeps prepared statements for its clients
(PgBouncer from 1.22 on, ``max_prepared_statements`` above 0) prepares them under names of its own;
with any other, the next client of the same server connection would meet them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import capabilities, generators
from psycopg import errors as pg
from psycopg.pq import ExecStatus

if TYPE_CHECKING:
    from psycopg.abc import PQGen
    from psycopg.pq.abc import PGconn, PGresult

_PROBE = b"tenantry_probe"
_SEEN = b"SELECT count(*) FROM pg_catalog.pg_prepared_statements WHERE name = 'tenantry_probe'"


def keeps_statements(pgconn: PGconn) -> PQGen[bool]:
    """Say whether a pooler keeps prepared statements for this client.

    They are given up by a message that libpq knows from 17 on; before, psycopg says ``DEALLOCATE``,
    of which PgBouncer knows nothing.
    """
    if not capabilities.has_send_close_prepared():
        return False
    # One transaction: one server connection.
    pgconn.send_query(b"BEGIN")
    yield from _answer(pgconn)
    try:
        pgconn.send_prepare(_PROBE, b"SELECT 1")
        yield from _answer(pgconn)
        pgconn.send_query(_SEEN)
        kept = (yield from _answer(pgconn)).get_value(0, 0) == b"0"
        if kept:
            pgconn.send_close_prepared(_PROBE)
        else:
            pgconn.send_query(b"DEALLOCATE " + _PROBE)
        yield from _answer(pgconn)
    except pg.DuplicatePreparedStatement:
        # Another client's, who was cut off here.
        kept = False
    pgconn.send_query(b"ROLLBACK")
    yield from _answer(pgconn)
    return kept


def _answer(pgconn: PGconn) -> PQGen[PGresult]:
    results: list[PGresult] = yield from generators.execute(pgconn)
    last = results[-1]
    if last.status == ExecStatus.FATAL_ERROR:
        raise pg.error_from_result(last)
    return last
