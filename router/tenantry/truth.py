"""A COMMIT that tells the truth (design, section 5a): the part that has no colour.

A COMMIT counts as acknowledged only when it returned, as a COMMIT, without a warning. psycopg
itself cancels a statement on the server when its caller is interrupted; a cancelled wait for a
synchronous standby then returns normally and only a warning tells. So an interrupted COMMIT is
never cancelled: its socket is closed and the caller gets :class:`~tenantry.errors.OutcomeUnknown`.

A transaction that wrote has its id asked for in the same flight as the COMMIT, as a message of its
own before it: the answer arrives also when the COMMIT's does not, and costs no round trip. The same
message raises ``synchronous_commit`` to what was declared for the shard. Both may follow the last
statement of the transaction without waiting for its answer: when it fails COMMIT rolls back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import psycopg
from psycopg import errors as pg
from psycopg.pq import DiagnosticField, ExecStatus

from tenantry.errors import OutcomeUnknown
from tenantry.flight import arrive, depart, drain, refusal
from tenantry.identity import Identified
from tenantry.prelude import WRITTEN
from tenantry.prepared import BucketStatements
from tenantry.tokens import Token, parse_lsn
from tenantry.watchdog import Shuttable

if TYPE_CHECKING:
    from collections.abc import Callable

    from psycopg._cursor_base import BaseCursor
    from psycopg.abc import PQGen
    from psycopg.pq.abc import PGresult

    from tenantry.call import Call
    from tenantry.place import Place
    from tenantry.receipt import Receipt
    from tenantry_schema.query import Query

# A commit counts at the level that was declared for its shard: what a transaction, a role or a
# setting of the server weakened is made good before COMMIT. A stronger level stays.
_XID = {
    durability: (
        b"SELECT pg_catalog.pg_current_xact_id_if_assigned(), "
        b"CASE WHEN pg_catalog.current_setting('synchronous_commit') IN (" + weaker + b") "
        b"THEN pg_catalog.set_config('synchronous_commit', 'on', true) END"
    )
    for durability, weaker in (
        ("local", b"'off'"),
        ("two-nodes", b"'off', 'local', 'remote_write'"),
    )
}


class Guarded(Shuttable, Protocol):
    """What the watchdog and a call need of a connection."""

    lease: int
    call: Call | None
    wants_position: bool
    node_label: str


class Truthful(Identified):
    """What both colours share: warnings seen, and the checked COMMIT."""

    #: Whether the statement that is sent next takes the COMMIT along.
    leaving: bool = False
    #: True from the moment COMMIT was handed to the socket until it was acknowledged.
    committing: bool = False
    #: Whether the flight of the COMMIT asks for the transaction's id.
    _asked_xid: bool = False
    #: Counts the calls that the connection served, so that a late alarm finds the wrong number.
    lease: int = 0
    #: The pool that SQLAlchemy has borrowed the connection from, which it gives back by closing it.
    lender: Any = None
    #: The lease that ended with the connection's return to its pool.
    returned: int = -1
    #: Whether the caller wants to know where its commit stands, and the answer: position, timeline.
    wants_position: bool = False
    position: tuple[int, int] | None = None
    #: The id of the transaction that was committed last, if it was told.
    told_xid: str | None = None

    def prepare_truth(self, place: Place) -> None:
        """Begin to listen to the server's warnings: called once for each new connection."""
        self._prepared = self.statements = BucketStatements(self.prepare_threshold, place.kept)
        self._warnings: list[str] = []
        self.note_place(place)
        self.add_notice_handler(self._on_notice)

    def add_notice_handler(self, callback: Callable[[pg.Diagnostic], None]) -> None:
        """Register a handler once: SQLAlchemy adds its own at every checkout."""
        if callback not in self._notice_handlers:
            super().add_notice_handler(callback)

    def taken_back(self) -> Any:
        """Return the pool that SQLAlchemy gives the connection back to by closing it.

        psycopg's ``close()`` leaves out a connection whose stream has ended; so its place in the
        pool would be taken for ever by a session that the server cut off.
        """
        lender, self.lender = self.lender, None
        return lender if lender is not None and self.ends_lease() else None

    def ends_lease(self) -> bool:
        """Say whether the connection is out of its pool, to which it goes back now."""
        out = self.returned != self.lease
        self.returned = self.lease
        return out

    @property
    def receipt(self) -> Receipt | None:
        """How the call that holds the connection is served: take it inside the block."""
        return None if self.call is None else self.call.receipt

    def _on_notice(self, notice: pg.Diagnostic) -> None:
        if self.committing and notice.severity_nonlocalized == "WARNING":
            self._warnings.append(notice.message_primary or "(no text)")

    def _checked_commit(self) -> PQGen[None]:
        if self.wants_position:
            yield from self.open_now()
        if self.nothing_to_commit():
            return
        yield from self._before_commit()
        if (self.statements.wrote or self.wants_position) and self._pipeline is None:
            self.pgconn.enter_pipeline_mode()
            self.send_commit()
            yield from depart(self.pgconn)
            yield from self.hear_commit()
        else:
            self.committing = True
            result = yield from self._exec_command(b"COMMIT")
            if self._pipeline is not None:
                # Until then nothing was sent.
                yield from self._pipeline._sync_gen()  # noqa: SLF001  psycopg's own way
            self._acknowledge(result)

    def _conclude(self, cursor: BaseCursor[Any, Any], query: Query) -> PQGen[None]:
        """Run the last statement of the transaction, and commit: in one flight where that can be.

        What was declared to be a read has nothing to acknowledge, and is over with its flight, or,
        where that cannot be, is ended by whoever knows where it was served.
        """
        statement = cursor._execute_gen(query.text, query.params, prepare=query.prepare)  # noqa: SLF001  psycopg's own way
        if self.declared:
            self.brief = True
            try:
                yield from statement
            finally:
                self.brief = False
            if self.outdated:
                yield from self._who()
            self.place.check_one_primary()
            return
        yield from self._before_commit()
        self.leaving = self.statements.leaving = True
        try:
            yield from statement
            if self.leaving:
                self.leaving = False
                yield from self._checked_commit()
        finally:
            self.leaving = self.statements.leaving = False
        if self.call is not None:
            self.call.committed = True

    @property
    def ending(self) -> bytes:
        """What asks for the id of the transaction, and raises ``synchronous_commit``."""
        return _XID[self.place.shard.durability]

    def unread(self, error: Exception) -> Exception:
        """Return the error of a last statement whose rows cannot be read."""
        return error if self.declared else self._unknown(f"its rows cannot be read: {error}")

    def _before_commit(self) -> PQGen[None]:
        if self.outdated or not self.vouched:
            # Within the transaction a pooler asks the server that will commit.
            yield from self.open_now()
            yield from self._who()
        self.place.check_one_primary()
        self._warnings.clear()
        self.told_xid = self.position = None

    def _acknowledge(self, result: PGresult | None) -> None:
        if self._warnings:
            raise self._unknown(f"COMMIT came with a warning: {'; '.join(self._warnings)}")
        if result is not None and result.command_status != b"COMMIT":
            self.committing = False
            raise pg.TransactionRollback("the server rolled the transaction back at COMMIT")
        self.committing = False
        self._note_position()

    def _note_position(self) -> None:
        if self.call is not None and self.position is not None:
            position, timeline = self.position
            token = Token(self.place.shard.id, self.system, timeline, position)
            self.call.receipt.committed(token)

    def send_commit(self) -> None:
        """Send together the question for the id of what wrote, the COMMIT, and for its position."""
        pgconn = self.pgconn
        self.committing = True
        self._asked_xid = self.statements.wrote or self.wants_position
        if self._asked_xid:
            ending = self.ending
            name = self.statements.own.get(ending)
            if name is None:
                pgconn.send_query_params(ending, None)
            else:
                pgconn.send_query_prepared(name, None)
        pgconn.pipeline_sync()
        pgconn.send_query_params(b"COMMIT", None)
        if self.wants_position:
            pgconn.send_query_params(WRITTEN, None)
        pgconn.pipeline_sync()

    def hear_commit(self) -> PQGen[None]:
        """Take in the answers of a COMMIT's flight as they come: the COMMIT's may never do.

        :raises OutcomeUnknown: when a warning came with it
        """
        # What the statement before it warned of is not about the COMMIT.
        self._warnings.clear()
        if self._asked_xid:
            told = yield from self._next(syncs=2)
            self.told_xid = (told.get_value(0, 0) or b"").decode() or None
        yield from self._next()
        result = yield from self._next()
        if self.wants_position:
            # What fails after the COMMIT does not undo it.
            position = yield from self._next(may_fail=True)
            if position.status == ExecStatus.TUPLES_OK:
                at, timeline = (position.get_value(0, it) or b"" for it in range(2))
                # Behind a pooler the timeline may have changed since this connection was made.
                self.position = parse_lsn(at.decode()), int(timeline, 16)
        yield from self._next()
        self.pgconn.exit_pipeline_mode()
        self._acknowledge(result)

    def note_refusal(self, result: PGresult) -> None:
        """Note that a server refused a statement: a COMMIT behind it has done nothing.

        :raises psycopg.OperationalError: when that need not be so: libpq itself, which has no
            SQLSTATE, may fail to keep a result, and a pooler speaks for a server that went away
            without having heard all that it answered
        """
        certain = result.error_field(DiagnosticField.SQLSTATE) and not (
            self.pooled and self.pgconn.pipeline_status
        )
        if self.committing and not certain:
            raise psycopg.OperationalError("a flight with a COMMIT ended within its statement")
        self.committing = False

    def _next(self, *, syncs: int = 1, may_fail: bool = False) -> PQGen[PGresult]:
        """Return the next result of the flight, a sync's among them.

        :param syncs: how many of these are still to come
        """
        result = yield from arrive(self.pgconn)
        if result is None:
            raise psycopg.OperationalError("the server ended the flight of a COMMIT")
        if result.status == ExecStatus.PIPELINE_SYNC:
            return result
        ended = yield from arrive(self.pgconn)
        if ended is not None:
            raise psycopg.InternalError("one statement of a COMMIT's flight was answered twice")
        if result.status == ExecStatus.FATAL_ERROR and not may_fail:
            yield from drain(self.pgconn, syncs)
            raise refusal(self.pgconn, result)
        return result

    def _unknown(self, why: str) -> OutcomeUnknown:
        route = None if self.call is None else self.call.route
        return OutcomeUnknown(
            f"the outcome of a COMMIT on {self.node_label} is not known ({why}): it may have "
            "happened; ask router.outcome(error), and do not repeat the work before",
            xid=self.told_xid,
            node=self.node_label,
            system=self.system,
            timeline=self.timeline,
            backend=self.backend,
            shard=None if route is None else route.placement.shard,
            tenant=None if self.call is None else self.call.tenant_text,
            operation=None if self.call is None else self.call.operation,
        )

    def _after_failed_commit(self, error: BaseException) -> Exception | None:
        """Say what a failure during COMMIT means; close the socket if that is the truth to keep."""
        if not self.committing:
            return None
        if isinstance(error, OutcomeUnknown):
            self.pgconn.finish()
            return error
        if isinstance(error, psycopg.Error) and error.sqlstate and not self.closed:
            # The server itself refused (a deferred constraint, a serialization failure).
            self.committing = False
            if isinstance(error, pg.InvalidSqlStatementName):
                # It was told to forget what it knew.
                self.statements.clear()
            return None
        self.pgconn.finish()
        if self.declared:
            # Postgres let it write nothing, so there is nothing whose outcome could be doubted.
            self.committing = False
            lost = psycopg.OperationalError(f"{self.node_label} ended the connection")
            return lost if isinstance(error, psycopg.Error) else None
        return self._unknown(f"{type(error).__name__} while waiting for the acknowledgement")
