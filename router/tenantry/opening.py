"""How a transaction of a routed connection opens: by one message, or along with what it asks first.

A driver spends a round trip on ``BEGIN``. A routed transaction that need not be answered before its
first statement waits for that statement, and both travel together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import generators
from psycopg._preparing import Prepare
from psycopg.errors import InFailedSqlTransaction
from psycopg.pq import ExecStatus, TransactionStatus

from tenantry.flight import land, refusal
from tenantry.parting import Partable
from tenantry.prelude import SETTINGS, Prelude
from tenantry.prepared import is_one

if TYPE_CHECKING:
    from psycopg._queries import PostgresQuery
    from psycopg.abc import Params, PQGen, Query
    from psycopg.pq.abc import PGresult

    from tenantry.call import Call
    from tenantry.prepared import BucketStatements

# What may outlive its transaction, and would reach the next tenant on the connection. It is taken
# away in a transaction of its own, in the message that opens the next one.
_LASTING = frozenset({b"SET", b"DECLARE CURSOR", b"LISTEN"})
_CLEAN = (b"BEGIN", b"CLOSE ALL", b"UNLISTEN *", b"RESET ALL", b"COMMIT")

#: The rows of one prelude's results, as text.
Answers = list[tuple[str, ...]]


class Openable(Partable):
    """What both colours share: the transaction that opens with, or before, its first statement."""

    #: What opens the transaction and has not been sent yet.
    opening: Prelude | None = None
    #: Whether a statement is on its way that the opening may travel with.
    accompanied: bool = False
    #: Whether something may have been left in the session for whoever has the connection next.
    lasting: bool = False
    #: The call that is being served.
    call: Call | None = None
    statements: BucketStatements

    def puts_off(self, prelude: Prelude) -> bool:
        """Note how the next transaction opens; say whether that waits for its first statement.

        :raises psycopg.OperationalError: when the connection is closed
        """
        self._check_connection_ok()
        self.statements.schema = prelude.schema.encode()
        self.statements.wrote = False
        if self.lasting:
            self.lasting = False
            prelude = Prelude(_CLEAN + prelude.statements, prelude.schema)
        self.opening = prelude
        return prelude.settings is not None

    def open_alone(self) -> PQGen[Answers]:
        """Open the transaction by one message; give the first row of each of its results."""
        yield from self.await_parting()
        assert self.opening is not None
        self.pgconn.send_query(self.opening.message)
        self.opening = None
        return (yield from self._answers())

    def send_opening(self) -> int:
        """Send what opens the transaction as a part of a flight; return how many answers it has."""
        assert self.opening is not None
        pgconn, named, opening = self.pgconn, self.statements.openers, self.opening
        self.opening = None
        if self.statements.prepare_threshold is None:
            for text in opening.statements:
                pgconn.send_query_params(text, None)
            return len(opening.statements)
        parts = (opening.statements[0], None), (SETTINGS, opening.settings)
        answers = len(parts)
        for text, values in parts:
            name = named.get(text)
            if name is None:
                name = self.statements.name_opener(text)
                pgconn.send_prepare(name, text)
                answers += 1
            pgconn.send_query_prepared(name, values)
        return answers

    def nothing_to_commit(self) -> bool:
        """Say whether no transaction is open; one that was put off is forgotten.

        :raises psycopg.errors.InFailedSqlTransaction: when COMMIT would roll it back
        """
        self._check_connection_ok()
        self.opening = None
        if self.parting:
            # The transaction before this one has not even ended.
            return True
        status = self.pgconn.transaction_status
        if status == TransactionStatus.INERROR:
            raise InFailedSqlTransaction(
                "the transaction has failed, so COMMIT would roll it back: roll back and run it "
                "again, or wrap the statement that may fail in a savepoint"
            )
        return status == TransactionStatus.IDLE

    def _part(self) -> PQGen[None]:
        if not self.nothing_to_commit():
            yield from self.send_parting()

    def _open_now(self) -> PQGen[None]:
        if self.opening is not None:
            yield from self.open_alone()

    def _answers(self) -> PQGen[Answers]:
        results = yield from generators.execute(self.pgconn)
        if results[-1].status == ExecStatus.FATAL_ERROR:
            raise refusal(self.pgconn, results[-1])
        return [
            tuple([(it.get_value(0, column) or b"").decode() for column in range(it.nfields)])
            for it in results
            if it.status == ExecStatus.TUPLES_OK
        ]

    def _start_query(self) -> PQGen[None]:
        if not self.accompanied:
            yield from self._open_now()
        yield from super()._start_query()

    def _check_intrans_gen(self, attribute: str) -> PQGen[None]:
        yield from self._open_now()
        yield from super()._check_intrans_gen(attribute)

    def _tpc_begin_gen(self, xid: Any) -> PQGen[None]:
        yield from self._open_now()
        yield from super()._tpc_begin_gen(xid)

    def _rollback_gen(self) -> PQGen[None]:
        self.opening = None
        yield from self.await_parting()
        yield from super()._rollback_gen()


class NotingCursor(psycopg._cursor_base.BaseCursor[Any, Any]):  # noqa: SLF001  mixed into theirs
    """Mixed into a cursor: takes the opening along, and lets the connection know what was run."""

    _conn: Openable

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
        if conn.opening is not None:
            found, name = self._get_prepared(pgq, prepare)
            # To prepare takes an answer of its own.
            if found is not Prepare.SHOULD and (name or pgq.params or is_one(pgq.query)):
                yield from self._open_and_execute(pgq, name, binary=binary)
                return
            yield from conn.open_alone()
        yield from super()._maybe_prepare_gen(pgq, prepare=prepare, binary=binary)

    def _open_and_execute(
        self, pgq: PostgresQuery, name: bytes, *, binary: bool | None
    ) -> PQGen[None]:
        conn, pgconn = self._conn, self._pgconn
        following = conn.parting
        if not following:
            pgconn.enter_pipeline_mode()
        before = conn.send_opening()
        if name:
            self._send_query_prepared(name, pgq, binary=binary)
        else:
            self._execute_send(pgq, force_extended=True, binary=binary)
        pgconn.pipeline_sync()
        found = Prepare.YES if name else Prepare.NO
        key = conn.statements.maybe_add_to_cache(pgq, found, name)
        landed = yield from land(pgconn, before + 1, following=following)
        conn.parting = False
        for result in landed[:before]:
            if result.status == ExecStatus.FATAL_ERROR:
                conn.statements.clear()
                raise refusal(pgconn, result)
        if conn.call is not None:
            conn.call.unheard = False
        results = landed[before:]
        if key is not None:
            conn.statements.validate(key, found, name, results)
        self._check_results(results)
        self._set_results(results)

    def _check_results(self, results: list[PGresult]) -> None:
        super()._check_results(results)
        conn = self._conn
        for result in results:
            status = result.command_status or b""
            if not status.startswith(b"SELECT"):
                conn.statements.wrote = True
                conn.lasting = conn.lasting or status in _LASTING
