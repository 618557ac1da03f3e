"""How a transaction of a routed connection opens: by one message, or along with what it asks first.

A driver spends a round trip on ``BEGIN``. A routed transaction that need not be answered before its
first statement waits for that statement, and both travel together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from psycopg import generators
from psycopg.errors import DivisionByZero, InFailedSqlTransaction
from psycopg.pq import ExecStatus, TransactionStatus

from tenantry.errors import ShardUnavailable
from tenantry.flight import refusal
from tenantry.parting import Partable
from tenantry.prelude import CHECKED, READING, SETTINGS, Prelude, check

if TYPE_CHECKING:
    from psycopg.abc import PQGen
    from psycopg.pq.abc import PGresult

    from tenantry.call import Call
    from tenantry.prepared import BucketStatements

# What was left in the session is taken away in a transaction of its own, in the message that opens
# the next one.
_CLEAN = (b"BEGIN", b"CLOSE ALL", b"UNLISTEN *", b"RESET ALL", b"COMMIT")

#: The rows of one prelude's results, as text.
Answers = list[tuple[str, ...]]
#: Statements and their values.
Parts = tuple[tuple[bytes, Sequence[bytes] | None], ...]


class Openable(Partable):
    """What both colours share: the transaction that opens with, or before, its first statement."""

    #: What opens the transaction and has not been sent yet.
    opening: Prelude | None = None
    #: Whether a statement is on its way that the opening may travel with.
    accompanied: bool = False
    #: Whether the transaction only reads, and is over with the statement that opens it.
    brief: bool = False
    #: Whether nothing that opens the transaction takes a snapshot.
    bare: bool = True
    #: Whether the server of the open transaction is known to have come to the timeline that is
    #: :attr:`needed`.
    vouched: bool = True
    #: Whether something may have been left in the session for whoever has the connection next.
    lasting: bool = False
    #: The call that is being served.
    call: Call | None = None
    statements: BucketStatements
    #: ``host:port/database``, for messages.
    node_label: str = "(unknown node)"

    @property
    def needed(self) -> int | None:
        """The timeline that a primary must have come to, where a pooler might lead elsewhere."""
        return None

    @property
    def ending(self) -> bytes:
        """The question that travels with the COMMIT of what wrote."""
        raise NotImplementedError

    @property
    def declared(self) -> bool:
        """Whether what the call does was declared to be a read."""
        return self.call is not None and self.call.read is not None

    def puts_off(self, prelude: Prelude) -> bool:
        """Note how the next transaction opens; say whether that waits for its first statement.

        :raises psycopg.OperationalError: when the connection is closed
        """
        self._check_connection_ok()
        self.statements.schema = prelude.schema.encode()
        self.statements.wrote = False
        # Whoever was interrupted may have left it.
        self.accompanied = False
        self.vouched, self.bare = True, prelude.settings is not None
        if self.lasting:
            self.lasting = False
            prelude = Prelude(_CLEAN + prelude.statements, prelude.schema)
        self.opening = prelude
        return prelude.settings is not None

    def note_timeline(self, timeline: str) -> None:
        """Remember on which timeline a pooler's server has answered."""

    def open_alone(self) -> PQGen[Answers]:
        """Open the transaction by one message; give the first row of each of its results."""
        yield from self.await_parting()
        assert self.opening is not None
        opening, needed = self.opening, self.needed
        message, self.opening = opening.message, None
        if needed is None or self.bare:
            # What comes now may have to come before anything that takes a snapshot.
            self.vouched = needed is None
            self.pgconn.send_query(message)
            return (yield from self._answers())
        self.vouched = True
        self.pgconn.send_query(message + b"; " + check(needed))
        *answers, (timeline,) = yield from self._answers()
        self.note_timeline(timeline)
        return answers

    def send_opening(self) -> int:
        """Send what opens the transaction as a part of a flight; return how many answers it has.

        Without BEGIN what travels up to a sync is one transaction, which the sync ends (Postgres
        docs, 54.2.4, "Pipelining").
        """
        assert self.opening is not None
        self.vouched = True
        pgconn, statements = self.pgconn, self.statements
        parts = self._parts(self.opening)
        self.opening = None
        if statements.prepare_threshold is None:
            for text, values in parts:
                pgconn.send_query_params(text, values)
            return len(parts)
        needs = [text for text, _ in parts]
        if not self.declared:
            needs.append(self.ending)
        unknown = [text for text in needs if text not in statements.own]
        for text in unknown:
            pgconn.send_prepare(statements.name_own(text), text)
        for text, values in parts:
            pgconn.send_query_prepared(statements.own[text], values)
        return len(unknown) + len(parts)

    def _parts(self, opening: Prelude) -> Parts:
        assert opening.settings is not None
        text = READING if self.brief else SETTINGS
        values: tuple[bytes, ...] = opening.settings
        needed = self.needed
        if needed is not None:
            text, values = text + CHECKED, (*values, b"%08X" % needed)
        elif self.statements.prepare_threshold is None and not self.brief:
            return tuple([(it, None) for it in opening.statements])
        made = (text, values)
        return (made,) if self.brief else ((opening.statements[0], None), made)

    def refused(self, result: PGresult) -> Exception:
        """Return the error of what opens a transaction."""
        error = refusal(self.pgconn, result)
        needed = self.needed
        if needed is not None and isinstance(error, DivisionByZero):
            return self.deposed(needed)
        return error

    def deposed(self, needed: int) -> ShardUnavailable:
        """Return the error that says that a pooler leads to a server that must not serve."""
        return ShardUnavailable(
            f"{self.node_label} leads to a server that was deposed, or is none that takes writes: "
            f"it has not come to timeline {needed}, which was seen, or is in recovery; "
            "lead the pooler's entry to the primary"
        )

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

    def open_now(self) -> PQGen[None]:
        """Open the transaction by a message of its own, if it was put off."""
        if self.opening is not None:
            yield from self.open_alone()

    def _answers(self) -> PQGen[Answers]:
        results = yield from generators.execute(self.pgconn)
        if results[-1].status == ExecStatus.FATAL_ERROR:
            raise self.refused(results[-1])
        return [
            tuple([(it.get_value(0, column) or b"").decode() for column in range(it.nfields)])
            for it in results
            if it.status == ExecStatus.TUPLES_OK
        ]

    def _start_query(self) -> PQGen[None]:
        if not self.accompanied:
            yield from self.open_now()
        yield from super()._start_query()

    def _check_intrans_gen(self, attribute: str) -> PQGen[None]:
        yield from self.open_now()
        yield from super()._check_intrans_gen(attribute)

    def _tpc_begin_gen(self, xid: Any) -> PQGen[None]:
        yield from self.open_now()
        yield from super()._tpc_begin_gen(xid)

    def _rollback_gen(self) -> PQGen[None]:
        self.opening = None
        yield from self.await_parting()
        yield from super()._rollback_gen()
