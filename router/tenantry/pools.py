"""One pool for the primary of each shard and for each replica, for psycopg and SQLAlchemy.

What both colours share. A pool is opened when it is first needed, and bounded; there is no other
place that opens connections for routed work.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

from tenantry.conninfo import parse_pooler
from tenantry.errors import PoolExhausted, RouterClosed, ShardUnavailable
from tenantry.place import Place

if TYPE_CHECKING:
    from collections.abc import Callable

    from tenantry.map import Node, Shard
    from tenantry.replicas.lookout import Lookout
    from tenantry.settings import RouterSettings
    from tenantry.watchdog import Watchdog

S = TypeVar("S")

#: The most seconds that the server of a connection out of the pool is waited for.
_SETTLING_S = 1.0


class PoolTable:
    """Which pool serves what, by the shard's nodes: a changed node list gets new pools."""

    def __init__(
        self,
        settings: RouterSettings,
        given: dict[str, Any],
        lookout: Lookout,
        watchdog: Watchdog,
    ) -> None:
        self.settings = settings
        self.lookout = lookout
        self._watchdog = watchdog
        self._given = given
        self._pooler = None if settings.pooler is None else parse_pooler(settings.pooler, given)
        self._lock = threading.Lock()
        self._entries: dict[tuple[int, str | None], tuple[Shard, Any]] = {}

    def find(self, shard: Shard, node: Node | None) -> Any | None:
        """Return what serves the primary or a node, or None when it is new or has changed."""
        entry = self._entries.get((shard.id, None if node is None else node.name))
        if entry is None or (entry[0] is not shard and entry[0] != shard):
            return None
        # While a map changes, a call of the former one may have closed the newer one's watch.
        return None if entry[1].place.watch.closed else entry[1]

    def open(
        self, shard: Shard, node: Node | None, make: Callable[[Place, RouterSettings, Watchdog], S]
    ) -> tuple[S, list[S]]:
        """Return what serves now, and what served the shard's former nodes and must be closed.

        :raises RouterClosed: when the router was closed since the call began
        """
        with self._lock:
            found = self.find(shard, node)
            if found is not None:
                return found, []
            watch = self.lookout.watch(shard)
            if watch.closed:
                raise RouterClosed("the router was closed while a call was under way")
            former = [
                self._entries.pop(key)[1]
                for key, (_, serving) in list(self._entries.items())
                if key[0] == shard.id and serving.place.watch is not watch
            ]
            place = Place(watch, node, self._given, self.settings, self._pooler)
            serving = make(place, self.settings, self._watchdog)
            self._entries[shard.id, None if node is None else node.name] = (shard, serving)
            return serving, former

    def in_use(self, shard: Shard, node: Node) -> int:
        """Return how many connections to a node are in use."""
        found = self.find(shard, node)
        return 0 if found is None else found.in_use

    def all(self) -> list[Any]:
        """Return everything that serves."""
        return [serving for _, serving in self._entries.values()]

    def clear(self) -> list[Any]:
        """Forget and return everything that serves."""
        with self._lock:
            found = self.all()
            self._entries.clear()
            return found


def settling_time(until: float) -> float:
    """Return the moment until which a connection out of the pool may be answered what is missing.

    Another connection must still be had after one that is silent.

    :param until: the moment until which a connection is waited for, on the monotonic clock
    """
    now = time.monotonic()
    return now + min(_SETTLING_S, (until - now) / 2)


def pool_options(place: Place, settings: RouterSettings) -> dict[str, Any]:
    """Return the arguments of a psycopg pool for a place."""
    return {
        "kwargs": {
            "place": place,
            # The prelude says BEGIN itself; psycopg must not say it again.
            "autocommit": True,
            "prepare_threshold": settings.prepare_threshold,
        },
        "min_size": 0,
        "max_size": settings.pool_size,
        "timeout": settings.acquire_timeout,
        "name": f"tenantry-{place.name}",
        "open": False,
        # Connecting is tried again by the connection itself, as soon as there is news.
        "reconnect_timeout": 0.0,
    }


def refused(place: Place, size: int, waited: float) -> Exception:
    """Say why no connection could be had from a pool."""
    reason = place.last_failure
    if reason is None and place.unanswered:
        # Connections that are missing, not in use: a larger pool would be no help.
        reason = "nobody has answered there yet"
    if reason is not None:
        return ShardUnavailable(
            f"no connection to {place.description} in {waited:.1f} s: {reason}; see "
            "`tenantry doctor`"
        )
    return PoolExhausted(
        f"all {size} connections to {place.description} were in use for {waited:.1f} s: shorten "
        "transactions, or raise pool_size="
    )
