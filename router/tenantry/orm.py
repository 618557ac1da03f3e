"""SQLAlchemy sessions whose transactions open with the prelude.

One subclass of ``Session`` serves both doors: SQLAlchemy runs it in a greenlet for the async one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, SessionTransaction

from tenantry.serving import ASKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection, Engine

    from tenantry.call import Call
    from tenantry.opening import Answers
    from tenantry.receipt import Receipt
    from tenantry.tokens import Token


class RoutedSession(Session):
    """A session bound to one bucket; every transaction of it opens with the bucket's prelude.

    :ivar receipt: how it is served
    """

    def __init__(
        self,
        *,
        call: Call,
        opened: Callable[[Call, Answers], None],
        begun: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(expire_on_commit=False, **options)
        self.routed_call = call
        self.call_opened = opened
        #: Whether the first transaction was opened already, on the replica that was chosen.
        self.begun = begun
        self.receipt: Receipt = call.receipt

    def get_bind(self, *args: Any, **options: Any) -> Engine | Connection:
        """Return what the session is bound to, and say who is asking for a connection of it."""
        ASKING.set(self.routed_call)
        return super().get_bind(*args, **options)

    @property
    def token(self) -> Token:
        """Where the commit stands: for a session with ``token=True``, after its COMMIT.

        :raises InvalidInput: when it was not asked for, or nothing was committed yet
        """
        return self.receipt.token


class AsyncRoutedSession(AsyncSession):
    """The same for the async door."""

    sync_session_class = RoutedSession
    sync_session: RoutedSession

    @property
    def receipt(self) -> Receipt:
        """How it is served."""
        return self.sync_session.receipt

    @property
    def token(self) -> Token:
        """Where the commit stands, as for the sync door."""
        return self.sync_session.token


@event.listens_for(RoutedSession, "after_begin")
def _open_routed(session: RoutedSession, transaction: SessionTransaction, conn: Connection) -> None:
    if transaction.nested:
        return
    if session.begun:
        session.begun = False
        return
    call = session.routed_call
    adapted: Any = conn.connection.dbapi_connection
    driver: Any = conn.connection.driver_connection
    call.watch(driver)
    opening = call.opening
    if adapted is driver:
        answers = driver.begin(opening)
    else:
        answers = adapted.run_async(lambda it: it.begin(opening))
    session.call_opened(call, answers)


@event.listens_for(RoutedSession, "after_commit")
@event.listens_for(RoutedSession, "after_rollback")
def _unwatch(session: RoutedSession) -> None:
    # Before SQLAlchemy gives the connection back: later it may serve somebody else.
    session.routed_call.unwatch()
