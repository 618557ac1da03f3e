"""The async context managers behind ``session`` and ``connection``: one routed transaction each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.ext.asyncio import AsyncSession

from tenantry.orm import RoutedSession

if TYPE_CHECKING:
    from tenantry.aio import AsyncRouter
    from tenantry.aserving import AsyncServing
    from tenantry.call import Call
    from tenantry.connection import AsyncRoutedConnection


class AsyncRoutedConnectionContext:
    """Give an async psycopg connection inside a routed transaction; commit at the end."""

    __slots__ = ("_call", "_conn", "_router", "_serving")

    def __init__(self, router: AsyncRouter, call: Call) -> None:
        self._router = router
        self._call = call
        self._serving: AsyncServing
        self._conn: AsyncRoutedConnection

    async def __aenter__(self) -> AsyncRoutedConnection:
        call = self._call
        serving = self._serving = await self._router.serving(self._router.shard_of(call))
        conn = self._conn = await serving.acquire(call.remaining)
        call.watch(conn)
        try:
            self._router.learn(
                call, await conn.begin(call.route.prelude, call.route.placement.schema)
            )
        except BaseException as error:
            await self._fail(error)
        return conn

    async def __aexit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is None:
            try:
                await self._conn.commit()
            except BaseException as failure:
                await self._fail(failure)
            await self._release()
        else:
            await self._fail(error, raised=True)

    async def _release(self) -> None:
        self._call.unwatch()
        await self._serving.release(self._conn)

    async def _fail(self, error: BaseException, *, raised: bool = False) -> None:
        await self._conn.abandon()
        await self._release()
        explained = await self._router.explained(self._call, error)
        if explained is not error:
            raise explained from error
        if not raised:
            raise error


class AsyncRoutedSessionContext:
    """Give a SQLAlchemy ``AsyncSession`` on a routed engine; commit at the end."""

    __slots__ = ("_call", "_router", "_session")

    def __init__(self, router: AsyncRouter, call: Call) -> None:
        self._router = router
        self._call = call
        self._session: AsyncSession

    async def __aenter__(self) -> AsyncSession:
        serving = await self._router.serving(self._router.shard_of(self._call))
        self._session = AsyncSession(
            bind=serving.engine,
            sync_session_class=RoutedSession,
            call=self._call,
            learn=self._router.learn,
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
        finally:
            self._call.unwatch()
