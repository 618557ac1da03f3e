"""The sync context managers behind ``session`` and ``connection``: one routed transaction each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tenantry.orm import RoutedSession

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from tenantry.call import Call
    from tenantry.connection import RoutedConnection
    from tenantry.router import Router
    from tenantry.serving import Serving


class RoutedConnectionContext:
    """Give a psycopg connection inside a routed transaction; commit at the end."""

    __slots__ = ("_call", "_conn", "_router", "_serving")

    def __init__(self, router: Router, call: Call) -> None:
        self._router = router
        self._call = call
        self._serving: Serving
        self._conn: RoutedConnection

    def __enter__(self) -> RoutedConnection:
        call = self._call
        serving = self._serving = self._router.serving(self._router.shard_of(call))
        conn = self._conn = serving.acquire(call.remaining)
        call.watch(conn)
        try:
            self._router.learn(call, conn.begin(call.route.prelude, call.route.placement.schema))
        except BaseException as error:
            self._fail(error)
        return conn

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is None:
            try:
                self._conn.commit()
            except BaseException as failure:
                self._fail(failure)
            self._release()
        else:
            self._fail(error, raised=True)

    def _release(self) -> None:
        self._call.unwatch()
        self._serving.release(self._conn)

    def _fail(self, error: BaseException, *, raised: bool = False) -> None:
        self._conn.abandon()
        self._release()
        explained = self._router.explained(self._call, error)
        if explained is not error:
            raise explained from error
        if not raised:
            raise error


class RoutedSessionContext:
    """Give a SQLAlchemy session on a routed engine; commit at the end."""

    __slots__ = ("_call", "_router", "_session")

    def __init__(self, router: Router, call: Call) -> None:
        self._router = router
        self._call = call
        self._session: RoutedSession

    def __enter__(self) -> Session:
        serving = self._router.serving(self._router.shard_of(self._call))
        self._session = RoutedSession(
            bind=serving.engine, call=self._call, learn=self._router.learn
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
        finally:
            self._call.unwatch()
