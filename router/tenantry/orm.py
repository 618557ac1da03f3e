"""SQLAlchemy sessions whose transactions open with the prelude.

One subclass of ``Session`` serves both doors: SQLAlchemy runs it in a greenlet for the async one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.orm import Session, SessionTransaction

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from tenantry.call import Call


class RoutedSession(Session):
    """A session bound to one bucket; every transaction of it opens with the bucket's prelude."""

    def __init__(
        self, *, call: Call, learn: Callable[[Call, str | None], None], **options: Any
    ) -> None:
        super().__init__(expire_on_commit=False, **options)
        self.routed_call = call
        self.learn_tenant = learn


@event.listens_for(RoutedSession, "after_begin")
def _open_routed(session: RoutedSession, transaction: SessionTransaction, conn: Connection) -> None:
    if transaction.nested:
        return
    call = session.routed_call
    adapted: Any = conn.connection.dbapi_connection
    driver: Any = conn.connection.driver_connection
    call.watch(driver)
    route = call.route
    if adapted is driver:
        answer = driver.begin(route.prelude, route.placement.schema)
    else:
        answer = adapted.run_async(lambda it: it.begin(route.prelude, route.placement.schema))
    session.learn_tenant(call, answer)


@event.listens_for(RoutedSession, "after_commit")
@event.listens_for(RoutedSession, "after_rollback")
def _unwatch(session: RoutedSession) -> None:
    # Before SQLAlchemy gives the connection back: later it may serve somebody else.
    session.routed_call.unwatch()
