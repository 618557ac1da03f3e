"""A connection that serves a call, and the pool that it came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection

    from tenantry.aserving import AsyncServing
    from tenantry.connection import AsyncRoutedConnection, RoutedConnection
    from tenantry.serving import Serving


@dataclass(slots=True)
class Lease:
    """A connection out of a pool.

    :ivar orm: the SQLAlchemy connection on it, for sessions on a replica
    """

    serving: Serving
    conn: RoutedConnection
    orm: Connection | None = None


@dataclass(slots=True)
class AsyncLease:
    """A connection out of an async pool."""

    serving: AsyncServing
    conn: AsyncRoutedConnection
    orm: AsyncConnection | None = None
