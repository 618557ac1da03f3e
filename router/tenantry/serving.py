"""What serves a shard's primary, sync: a bounded pool, and an SQLAlchemy engine on it."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from psycopg_pool import ConnectionPool, PoolTimeout
from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import NullPool

from tenantry.connection import RoutedConnection
from tenantry.pools import Failures, PoolTable, refused

if TYPE_CHECKING:
    from tenantry.map import Shard


class Serving:
    """The pool of a shard's primary and the engine on it."""

    def __init__(self, shard: Shard, pools: PoolTable) -> None:
        self._shard = shard
        self._failures = Failures()
        self._patience = pools.settings.acquire_timeout
        self._pool: ConnectionPool[RoutedConnection] = ConnectionPool(
            connection_class=RoutedConnection, **pools.options(shard, self._failures)
        )
        self._pool.open(wait=False)
        self._engine: Engine | None = None
        self._engine_lock = threading.Lock()

    @property
    def engine(self) -> Engine:
        """The engine whose connections come from the pool and go back to it."""
        if self._engine is None:
            with self._engine_lock:
                if self._engine is None:
                    self._engine = create_engine(
                        "postgresql+psycopg://", creator=self.acquire, poolclass=NullPool
                    )
        return self._engine

    def acquire(self, patience: float | None = None) -> RoutedConnection:
        """Take a connection out of the pool.

        :param patience: seconds to wait, at most the setting ``acquire_timeout``
        :raises PoolExhausted: when all are in use
        :raises ShardUnavailable: when the primary does not answer
        """
        bound = self._patience if patience is None else min(patience, self._patience)
        started = time.monotonic()
        try:
            conn = self._pool.getconn(bound)
        except PoolTimeout as error:
            waited = time.monotonic() - started
            raise refused(self._shard, self._pool, self._failures, waited) from error
        conn.lease += 1
        return conn

    def release(self, conn: RoutedConnection) -> None:
        """Give a connection back; a broken one is replaced."""
        self._pool.putconn(conn)

    def close(self) -> None:
        """Close the pool and the engine."""
        if self._engine is not None:
            self._engine.dispose()
        self._pool.close()

    def stats(self) -> dict[str, Any]:
        """Return the pool's counters."""
        return dict(self._pool.get_stats())
