"""psycopg connections whose COMMIT tells the truth (design, section 5a).

A COMMIT counts as acknowledged only when it returned, as a COMMIT, without a warning. psycopg
itself cancels a statement on the server when its caller is interrupted; a cancelled wait for a
synchronous standby then returns normally and only a warning tells. So an interrupted COMMIT is
never cancelled: its socket is closed and the caller gets :class:`~tenantry.errors.OutcomeUnknown`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import psycopg
from psycopg import errors as pg
from psycopg import generators, waiting
from psycopg.pq import ExecStatus, TransactionStatus

from tenantry.errors import OutcomeUnknown
from tenantry.prepared import BucketStatements
from tenantry.watchdog import Shuttable

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from psycopg.abc import PQGen

    from tenantry.pools import Failures


#: How often a waiting COMMIT looks for Ctrl-C.
_LOOK_S = 0.1


class Guarded(Shuttable, Protocol):
    """What the watchdog needs of a connection."""

    lease: int


class _Truthful(psycopg.BaseConnection[Any]):
    """What both colours share: the warnings seen, and the checked COMMIT as a generator."""

    #: True from the moment COMMIT was handed to the socket until it was acknowledged.
    committing: bool = False
    #: Counts the calls that the connection served, so that a late alarm finds the wrong number.
    lease: int = 0
    #: ``host:port/database``, for messages.
    node_label: str = "(unknown node)"

    def prepare_truth(self, kept: int) -> None:
        """Begin to listen to the server's warnings: called once for each new connection."""
        self._prepared = self._statements = BucketStatements(self.prepare_threshold, kept)
        info = self.info
        self.node_label = f"{info.host}:{info.port}/{info.dbname}"
        self._warnings: list[str] = []
        self.add_notice_handler(self._on_notice)

    def add_notice_handler(self, callback: Callable[[pg.Diagnostic], None]) -> None:
        """Register a handler once: SQLAlchemy adds its own at every checkout."""
        if callback not in self._notice_handlers:
            super().add_notice_handler(callback)

    def _on_notice(self, notice: pg.Diagnostic) -> None:
        if self.committing and notice.severity_nonlocalized == "WARNING":
            self._warnings.append(notice.message_primary or "(no text)")

    def _begin(self, prelude: bytes, schema: str) -> PQGen[str | None]:
        """Open a routed transaction by one message; give the value of its last result, if any."""
        self._check_connection_ok()
        self._statements.schema = schema.encode()
        self.pgconn.send_query(prelude)
        results = yield from generators.execute(self.pgconn)
        last = results[-1]
        if last.status == ExecStatus.FATAL_ERROR:
            raise pg.error_from_result(last, encoding=self.pgconn._encoding)  # noqa: SLF001
        if last.status != ExecStatus.TUPLES_OK:
            return None
        value = last.get_value(0, 0)
        return value.decode() if value else ""

    def _checked_commit(self) -> PQGen[None]:
        status = self.pgconn.transaction_status
        if status == TransactionStatus.IDLE:
            return
        if status == TransactionStatus.INERROR:
            raise pg.InFailedSqlTransaction(
                "the transaction has failed, so COMMIT would roll it back: roll back and run it "
                "again, or wrap the statement that may fail in a savepoint"
            )
        self._warnings.clear()
        self.committing = True
        result = yield from self._exec_command(b"COMMIT")
        if self._warnings:
            raise self._unknown(f"COMMIT came with a warning: {'; '.join(self._warnings)}")
        if result is not None and result.command_status != b"COMMIT":
            self.committing = False
            raise pg.TransactionRollback("the server rolled the transaction back at COMMIT")
        self.committing = False

    def _unknown(self, why: str) -> OutcomeUnknown:
        return OutcomeUnknown(
            f"the outcome of a COMMIT on {self.node_label} is not known ({why}): it may have "
            "happened; do not repeat the work unless it carries its own operation key",
            node=self.node_label,
        )

    def _after_failed_commit(self, error: BaseException) -> OutcomeUnknown | None:
        """Say what a failure during COMMIT means; close the socket if that is the truth to keep."""
        if not self.committing:
            return None
        if isinstance(error, OutcomeUnknown):
            self.pgconn.finish()
            return error
        if isinstance(error, psycopg.Error) and error.sqlstate and not self.closed:
            # The server itself refused (a deferred constraint, a serialization failure).
            self.committing = False
            return None
        self.pgconn.finish()
        return self._unknown(f"{type(error).__name__} while waiting for the acknowledgement")


class RoutedConnection(psycopg.Connection[Any], _Truthful):
    """A psycopg connection with a COMMIT that is either acknowledged or an error."""

    def abandon(self) -> None:
        """Roll back whatever is open; close what cannot be rolled back."""
        try:
            self.rollback()
        except psycopg.Error:
            # The server forgets the transaction with its connection.
            self.pgconn.finish()

    @classmethod
    def connect(cls, conninfo: str = "", *, failures: Failures, kept: int, **kwargs: Any) -> Self:  # type: ignore[override]
        """Connect, and note for the pool's callers why it failed."""
        try:
            conn = super().connect(conninfo, **kwargs)
        except psycopg.OperationalError as error:
            failures.note(error)
            raise
        failures.note(None)
        conn.prepare_truth(kept)
        return conn

    def begin(self, prelude: bytes, schema: str) -> str | None:
        """Open a transaction by its prelude."""
        with self.lock:
            return self.wait(self._begin(prelude, schema))

    def commit(self) -> None:
        """Commit.

        :raises OutcomeUnknown: when COMMIT was sent and no clean acknowledgement came back
        """
        with self.lock:
            try:
                waiting.wait(self._checked_commit(), self.pgconn.socket, interval=_LOOK_S)
            except BaseException as error:
                unknown = self._after_failed_commit(error)
                if unknown is None or unknown is error:
                    raise
                raise unknown from error


class AsyncRoutedConnection(psycopg.AsyncConnection[Any], _Truthful):
    """An async psycopg connection with a COMMIT that is either acknowledged or an error."""

    async def abandon(self) -> None:
        """Roll back whatever is open; close what cannot be rolled back."""
        try:
            await self.rollback()
        except psycopg.Error:
            # The server forgets the transaction with its connection.
            self.pgconn.finish()

    @classmethod
    async def connect(  # type: ignore[override]
        cls, conninfo: str = "", *, failures: Failures, kept: int, **kwargs: Any
    ) -> Self:
        """Connect, and note for the pool's callers why it failed."""
        try:
            conn = await super().connect(conninfo, **kwargs)
        except psycopg.OperationalError as error:
            failures.note(error)
            raise
        failures.note(None)
        conn.prepare_truth(kept)
        return conn

    async def begin(self, prelude: bytes, schema: str) -> str | None:
        """Open a transaction by its prelude."""
        async with self.lock:
            return await self.wait(self._begin(prelude, schema))

    async def commit(self) -> None:
        """Commit; a cancelled task gets the error too, because its COMMIT may have happened.

        :raises OutcomeUnknown: when COMMIT was sent and no clean acknowledgement came back
        """
        async with self.lock:
            try:
                await waiting.wait_async(
                    self._checked_commit(), self.pgconn.socket, interval=_LOOK_S
                )
            except BaseException as error:
                unknown = self._after_failed_commit(error)
                if unknown is None or unknown is error:
                    raise
                raise unknown from error
