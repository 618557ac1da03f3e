"""The async context managers behind ``session`` and ``connection``: one routed transaction each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
from sqlalchemy.exc import DBAPIError

from tenantry.orm import AsyncRoutedSession

if TYPE_CHECKING:
    from tenantry.aio import AsyncRouter
    from tenantry.call import Call
    from tenantry.connection import AsyncRoutedConnection
    from tenantry.lease import AsyncLease


class AsyncRoutedConnectionContext:
    """Give an async psycopg connection inside a routed transaction; commit at the end."""

    __slots__ = ("_call", "_lease", "_router")

    def __init__(self, router: AsyncRouter, call: Call) -> None:
        self._router = router
        self._call = call
        self._lease: AsyncLease

    async def __aenter__(self) -> AsyncRoutedConnection:
        lease = self._lease = await self._router.lease(self._call)
        return lease.conn

    async def __aexit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is None:
            try:
                if self._call.replica is not None:
                    await self._lease.conn.part()
                elif not self._call.committed:
                    await self._lease.conn.commit()
            except BaseException as failure:
                await self._router.give_up(self._lease, self._call)
                explained = await self._router.explained(self._call, failure)
                if explained is not failure:
                    raise explained from failure
                raise
            await self._router.give_back(self._lease, self._call)
        else:
            await self._router.give_up(self._lease, self._call)
            explained = await self._router.explained(self._call, error)
            if explained is not error:
                raise explained from error


class AsyncRoutedSessionContext:
    """Give a SQLAlchemy ``AsyncSession`` on a routed engine; commit at the end."""

    __slots__ = ("_call", "_lease", "_router", "_session")

    def __init__(self, router: AsyncRouter, call: Call) -> None:
        self._router = router
        self._call = call
        self._lease: AsyncLease | None = None
        self._session: AsyncRoutedSession

    async def __aenter__(self) -> AsyncRoutedSession:
        router, call = self._router, self._call
        if call.read is not None:
            self._lease = await router.lease_replica(call, orm=True)
        bind = (await router.primary(call)).engine if self._lease is None else self._lease.orm
        self._session = AsyncRoutedSession(
            bind=bind, call=call, opened=router.opened, begun=self._lease is not None
        )
        return self._session

    async def __aexit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        try:
            if error is None:
                await self._session.commit()
        except BaseException as failure:
            await self._close()
            explained = await self._router.explained(self._call, failure)
            if explained is not failure:
                raise explained from failure
            raise
        await self._close()
        if error is not None:
            explained = await self._router.explained(self._call, error)
            if explained is not error:
                raise explained from error

    async def _close(self) -> None:
        try:
            await self._session.close()
        except (DBAPIError, psycopg.Error):
            # It could not be rolled back: the server forgets the transaction with its connection.
            await self._session.invalidate()
        finally:
            self._call.unwatch()
            if self._lease is not None:
                await self._router.give_back(self._lease, self._call)
