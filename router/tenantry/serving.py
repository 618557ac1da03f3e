"""What serves a shard's primary or a replica, sync: a bounded pool, an SQLAlchemy engine on it."""

from __future__ import annotations

import threading
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg_pool import ConnectionPool, PoolTimeout
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.pool import NullPool

from tenantry.connection import RoutedConnection
from tenantry.errors import Unavailable
from tenantry.pools import pool_options, refused, settling_time

if TYPE_CHECKING:
    from tenantry.call import Call
    from tenantry.place import Place
    from tenantry.replicas.view import ReplicaState
    from tenantry.settings import RouterSettings
    from tenantry.watchdog import Watchdog


#: The connection that an engine is to take instead of one of the pool's.
ADOPTED: ContextVar[Any] = ContextVar("tenantry_adopted", default=None)
#: The call that an engine takes a connection for.
ASKING: ContextVar[Call | None] = ContextVar("tenantry_asking", default=None)


class RoutedPool(ConnectionPool[RoutedConnection]):
    """A pool that takes a connection back before its last COMMIT was answered."""

    def _reset_connection(self, conn: RoutedConnection) -> None:
        if not conn.parting:
            super()._reset_connection(conn)


class Serving:
    """The pool of a place and the engine on it."""

    def __init__(self, place: Place, settings: RouterSettings, watchdog: Watchdog) -> None:
        self.place = place
        self._watchdog = watchdog
        #: Connections that calls hold now.
        self.in_use = 0
        self._patience = settings.acquire_timeout
        self._size = settings.pool_size
        self._pool = RoutedPool(connection_class=RoutedConnection, **pool_options(place, settings))
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
                        "postgresql+psycopg://", creator=self._create, poolclass=NullPool
                    )
        return self._engine

    def acquire(
        self, patience: float | None = None, *, said: ReplicaState | None = None
    ) -> RoutedConnection:
        """Take a connection out of the pool.

        :param patience: seconds to wait, at most the setting ``acquire_timeout``
        :param said: what a replica said to the sampler: then what opens the transaction may follow
            the last COMMIT before that was answered
        :raises PoolExhausted: when all are in use
        :raises ShardUnavailable: when the server does not answer
        :raises SplitBrain: when two nodes of the shard take writes
        """
        self.place.check_one_primary()
        bound = self._patience if patience is None else min(patience, self._patience)
        started = time.monotonic()
        while True:
            try:
                conn = self._pool.getconn(max(0.0, started + bound - time.monotonic()))
            except PoolTimeout as error:
                self.place.check_one_primary()
                raise refused(self.place, self._size, time.monotonic() - started) from error
            usable = False
            try:
                usable = self._usable(conn, started + bound, said=said)
            finally:
                if not usable:
                    conn.pgconn.finish()
                    self._pool.putconn(conn)
            if usable:
                conn.lease += 1
                conn.lender = None
                return conn

    def release(self, conn: RoutedConnection) -> None:
        """Give a connection back, if SQLAlchemy has not; a broken one is replaced."""
        if conn.ends_lease():
            self._pool.putconn(conn)

    def adopt(self, conn: RoutedConnection) -> Connection:
        """Return an SQLAlchemy connection on one that was acquired and has not begun."""
        held = ADOPTED.set(conn)
        try:
            return self.engine.connect()
        finally:
            ADOPTED.reset(held)

    def close(self) -> None:
        """Close the pool and the engine."""
        if self._engine is not None:
            self._engine.dispose()
        self._pool.close()

    def stats(self) -> dict[str, Any]:
        """Return the pool's counters."""
        return dict(self._pool.get_stats())

    def _create(self) -> RoutedConnection:
        conn: RoutedConnection | None = ADOPTED.get()
        if conn is None:
            call = ASKING.get()
            conn = self.acquire(None if call is None else call.remaining)
            if call is not None:
                # SQLAlchemy asks a new engine's server what it is before the transaction opens.
                call.watch(conn)
        conn.lender = self._pool
        return conn

    def _usable(self, conn: RoutedConnection, until: float, *, said: ReplicaState | None) -> bool:
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
                conn.settle_down()
            except (Unavailable, psycopg.OperationalError) as error:
                self.place.failed(error)
                return False
            finally:
                self._watchdog.disarm(alarm)
        return True
