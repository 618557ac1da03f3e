"""What serves a shard's primary or a replica, async: a bounded pool, an SQLAlchemy engine on it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg_pool import AsyncConnectionPool, PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from tenantry.connection import AsyncRoutedConnection
from tenantry.errors import Unavailable
from tenantry.pools import pool_options, refused, settling_time
from tenantry.serving import ADOPTED, ASKING

if TYPE_CHECKING:
    from tenantry.place import Place
    from tenantry.replicas.view import ReplicaState
    from tenantry.settings import RouterSettings
    from tenantry.watchdog import Watchdog


class AsyncRoutedPool(AsyncConnectionPool[AsyncRoutedConnection]):
    """A pool that takes a connection back before its last COMMIT was answered."""

    async def _reset_connection(self, conn: AsyncRoutedConnection) -> None:
        if not conn.parting:
            await super()._reset_connection(conn)


class AsyncServing:
    """The pool of a place and the engine on it; it belongs to one event loop."""

    def __init__(self, place: Place, settings: RouterSettings, watchdog: Watchdog) -> None:
        self.place = place
        self._watchdog = watchdog
        #: Connections that calls hold now.
        self.in_use = 0
        self._patience = settings.acquire_timeout
        self._size = settings.pool_size
        self._pool = AsyncRoutedPool(
            connection_class=AsyncRoutedConnection, **pool_options(place, settings)
        )
        self._opened = False
        self._engine: AsyncEngine | None = None

    @property
    def engine(self) -> AsyncEngine:
        """The engine whose connections come from the pool and go back to it."""
        if self._engine is None:
            self._engine = create_async_engine(
                "postgresql+psycopg://", async_creator=self._create, poolclass=NullPool
            )
        return self._engine

    async def acquire(
        self, patience: float | None = None, *, said: ReplicaState | None = None
    ) -> AsyncRoutedConnection:
        """Take a connection out of the pool.

        :param patience: seconds to wait, at most the setting ``acquire_timeout``
        :param said: what a replica said to the sampler: then what opens the transaction may follow
            the last COMMIT before that was answered
        :raises PoolExhausted: when all are in use
        :raises ShardUnavailable: when the server does not answer
        :raises SplitBrain: when two nodes of the shard take writes
        """
        if not self._opened:
            await self._pool.open(wait=False)
            self._opened = True
        self.place.check_one_primary()
        bound = self._patience if patience is None else min(patience, self._patience)
        started = time.monotonic()
        while True:
            try:
                conn = await self._pool.getconn(max(0.0, started + bound - time.monotonic()))
            except PoolTimeout as error:
                self.place.check_one_primary()
                raise refused(self.place, self._size, time.monotonic() - started) from error
            usable = False
            try:
                usable = await self._usable(conn, started + bound, said=said)
            finally:
                if not usable:
                    conn.pgconn.finish()
                    await self._pool.putconn(conn)
            if usable:
                conn.lease += 1
                conn.lender = None
                return conn

    async def release(self, conn: AsyncRoutedConnection) -> None:
        """Give a connection back, if SQLAlchemy has not; a broken one is replaced."""
        if conn.ends_lease():
            await self._pool.putconn(conn)

    async def adopt(self, conn: AsyncRoutedConnection) -> AsyncConnection:
        """Return an SQLAlchemy connection on one that was acquired and has not begun."""
        held = ADOPTED.set(conn)
        try:
            return await self.engine.connect()
        finally:
            ADOPTED.reset(held)

    async def close(self) -> None:
        """Close the pool and the engine."""
        if self._engine is not None:
            await self._engine.dispose()
        await self._pool.close()

    def stats(self) -> dict[str, Any]:
        """Return the pool's counters."""
        return dict(self._pool.get_stats())

    async def _create(self) -> AsyncRoutedConnection:
        conn: AsyncRoutedConnection | None = ADOPTED.get()
        if conn is None:
            call = ASKING.get()
            conn = await self.acquire(None if call is None else call.remaining)
            if call is not None:
                call.watch(conn)
        conn.lender = self._pool
        return conn

    async def _usable(
        self, conn: AsyncRoutedConnection, until: float, *, said: ReplicaState | None
    ) -> bool:
        if said is not None and conn.follows(said):
            return True
        if conn.ended:
            return False
        if conn.outdated and not conn.pooled:
            # A server goes on to another timeline only without its sessions: it was deposed.
            return False
        if conn.outdated or not conn.parted:
            # No call watches the connection yet, and its server may be silent.
            alarm = self._watchdog.arm(conn, settling_time(until))
            try:
                await conn.settle_down()
            except (Unavailable, psycopg.OperationalError) as error:
                self.place.failed(error)
                return False
            finally:
                self._watchdog.disarm(alarm)
        return True
