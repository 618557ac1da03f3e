"""What serves a shard's primary, async: a bounded pool, and an SQLAlchemy engine on it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from psycopg_pool import AsyncConnectionPool, PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from tenantry.connection import AsyncRoutedConnection
from tenantry.pools import Failures, PoolTable, refused

if TYPE_CHECKING:
    from tenantry.map import Shard


class AsyncServing:
    """The pool of a shard's primary and the engine on it; it belongs to one event loop."""

    def __init__(self, shard: Shard, pools: PoolTable) -> None:
        self._shard = shard
        self._failures = Failures()
        self._patience = pools.settings.acquire_timeout
        self._pool: AsyncConnectionPool[AsyncRoutedConnection] = AsyncConnectionPool(
            connection_class=AsyncRoutedConnection, **pools.options(shard, self._failures)
        )
        self._opened = False
        self._engine: AsyncEngine | None = None

    @property
    def engine(self) -> AsyncEngine:
        """The engine whose connections come from the pool and go back to it."""
        if self._engine is None:
            self._engine = create_async_engine(
                "postgresql+psycopg://", async_creator=self.acquire, poolclass=NullPool
            )
        return self._engine

    async def acquire(self, patience: float | None = None) -> AsyncRoutedConnection:
        """Take a connection out of the pool.

        :param patience: seconds to wait, at most the setting ``acquire_timeout``
        :raises PoolExhausted: when all are in use
        :raises ShardUnavailable: when the primary does not answer
        """
        if not self._opened:
            await self._pool.open(wait=False)
            self._opened = True
        bound = self._patience if patience is None else min(patience, self._patience)
        started = time.monotonic()
        try:
            conn = await self._pool.getconn(bound)
        except PoolTimeout as error:
            waited = time.monotonic() - started
            raise refused(self._shard, self._pool, self._failures, waited) from error
        conn.lease += 1
        return conn

    async def release(self, conn: AsyncRoutedConnection) -> None:
        """Give a connection back; a broken one is replaced."""
        await self._pool.putconn(conn)

    async def close(self) -> None:
        """Close the pool and the engine."""
        if self._engine is not None:
            await self._engine.dispose()
        await self._pool.close()

    def stats(self) -> dict[str, Any]:
        """Return the pool's counters."""
        return dict(self._pool.get_stats())
