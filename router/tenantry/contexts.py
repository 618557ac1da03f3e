"""The sync context managers behind ``session`` and ``connection``: one routed transaction each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
from sqlalchemy.exc import DBAPIError

from tenantry.orm import RoutedSession

if TYPE_CHECKING:
    from tenantry.call import Call
    from tenantry.connection import RoutedConnection
    from tenantry.lease import Lease
    from tenantry.router import Router


class RoutedConnectionContext:
    """Give a psycopg connection inside a routed transaction; commit at the end."""

    __slots__ = ("_call", "_lease", "_router")

    def __init__(self, router: Router, call: Call) -> None:
        self._router = router
        self._call = call
        self._lease: Lease

    def __enter__(self) -> RoutedConnection:
        lease = self._lease = self._router.lease(self._call)
        return lease.conn

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is None:
            try:
                if self._call.replica is not None:
                    self._lease.conn.part()
                elif not self._call.committed:
                    self._lease.conn.commit()
            except BaseException as failure:
                self._router.give_up(self._lease, self._call)
                explained = self._router.explained(self._call, failure)
                if explained is not failure:
                    raise explained from failure
                raise
            self._router.give_back(self._lease, self._call)
        else:
            self._router.give_up(self._lease, self._call)
            explained = self._router.explained(self._call, error)
            if explained is not error:
                raise explained from error


class RoutedSessionContext:
    """Give a SQLAlchemy session on a routed engine; commit at the end."""

    __slots__ = ("_call", "_lease", "_router", "_session")

    def __init__(self, router: Router, call: Call) -> None:
        self._router = router
        self._call = call
        self._lease: Lease | None = None
        self._session: RoutedSession

    def __enter__(self) -> RoutedSession:
        router, call = self._router, self._call
        if call.read is not None:
            self._lease = router.lease_replica(call, orm=True)
        bind = router.primary(call).engine if self._lease is None else self._lease.orm
        self._session = RoutedSession(
            bind=bind, call=call, opened=router.opened, begun=self._lease is not None
        )
        return self._session

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        try:
            if error is None:
                self._session.commit()
        except BaseException as failure:
            self._close()
            explained = self._router.explained(self._call, failure)
            if explained is not failure:
                raise explained from failure
            raise
        self._close()
        if error is not None:
            explained = self._router.explained(self._call, error)
            if explained is not error:
                raise explained from error

    def _close(self) -> None:
        try:
            self._session.close()
        except (DBAPIError, psycopg.Error):
            # It could not be rolled back: the server forgets the transaction with its connection.
            self._session.invalidate()
        finally:
            self._call.unwatch()
            if self._lease is not None:
                self._router.give_back(self._lease, self._call)
