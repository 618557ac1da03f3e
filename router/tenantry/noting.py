"""Cursors that let a statement travel with what opens its transaction, and with its COMMIT."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
from psycopg._preparing import Prepare
from psycopg.pq import ExecStatus

from tenantry.flight import land
from tenantry.prepared import is_one

if TYPE_CHECKING:
    from psycopg._preparing import Key
    from psycopg._queries import PostgresQuery
    from psycopg.abc import Params, PQGen, Query
    from psycopg.pq.abc import PGresult

    from tenantry.truth import Truthful

#: What may outlive its transaction, and would reach the next tenant on the connection.
_LASTING = frozenset({b"SET", b"DECLARE CURSOR", b"LISTEN"})


class NotingCursor(psycopg._cursor_base.BaseCursor[Any, Any]):  # noqa: SLF001  mixed into theirs
    """Mixed into a cursor: takes along what opens the transaction, and the COMMIT after its last.

    The connection gets to know what was run.
    """

    _conn: Truthful

    def _execute_gen(
        self, query: Query, params: Params | None = None, **options: Any
    ) -> PQGen[None]:
        conn = self._conn
        conn.accompanied = True
        try:
            yield from super()._execute_gen(query, params, **options)
        finally:
            conn.accompanied = False

    def _maybe_prepare_gen(
        self, pgq: PostgresQuery, *, prepare: bool | None = None, binary: bool | None = None
    ) -> PQGen[None]:
        conn = self._conn
        if conn.opening is not None or conn.leaving:
            found, name = self._get_prepared(pgq, prepare)
            # To prepare takes an answer of its own.
            if found is not Prepare.SHOULD and (pgq.params or is_one(pgq.query)):
                yield from self._fly(pgq, name, binary=binary)
                return
            yield from conn.open_now()
        yield from super()._maybe_prepare_gen(pgq, prepare=prepare, binary=binary)

    def _fly(self, pgq: PostgresQuery, name: bytes, *, binary: bool | None) -> PQGen[None]:
        conn, pgconn = self._conn, self._pgconn
        following, commits = conn.parting, conn.leaving
        if not following:
            pgconn.enter_pipeline_mode()
        before = 0 if conn.opening is None else conn.send_opening()
        if name:
            self._send_query_prepared(name, pgq, binary=binary)
        else:
            self._execute_send(pgq, force_extended=True, binary=binary)
        if commits:
            conn.send_commit()
        else:
            pgconn.pipeline_sync()
        found = Prepare.YES if name else Prepare.NO
        key = conn.statements.maybe_add_to_cache(pgq, found, name)
        landed = yield from land(pgconn, before + 1, following=following, commits=commits)
        conn.parting = False
        self._take_in(landed, before, key, found, name)
        if commits:
            yield from conn.hear_commit()
            conn.leaving = False

    def _take_in(
        self, landed: list[PGresult], before: int, key: Key | None, found: Prepare, name: bytes
    ) -> None:
        conn = self._conn
        for result in landed[:before]:
            if result.status == ExecStatus.FATAL_ERROR:
                conn.statements.clear()
                conn.note_refusal(result)
                raise conn.refused(result)
        if before and conn.needed is not None:
            told = landed[before - 1]
            conn.note_timeline((told.get_value(0, told.nfields - 1) or b"").decode())
        if conn.call is not None:
            conn.call.unheard = False
        results = landed[before:]
        if key is not None:
            conn.statements.validate(key, found, name, results)
        if results[0].status == ExecStatus.FATAL_ERROR:
            conn.note_refusal(results[0])
        self._check_results(results)
        self._set_results(results)

    def _check_results(self, results: list[PGresult]) -> None:
        super()._check_results(results)
        conn = self._conn
        for result in results:
            status = result.command_status or b""
            if not status.startswith(b"SELECT"):
                if status == b"DEALLOCATE ALL":
                    conn.statements.clear()
                conn.statements.wrote = True
                conn.lasting = conn.lasting or status in _LASTING
