"""One pool for the primary of each shard, for psycopg and SQLAlchemy: what both colours share.

A pool is opened when its shard is first needed, and bounded; there is no other place that opens
connections for routed work.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, TypeVar

from psycopg.conninfo import conninfo_to_dict

from tenantry.conninfo import primary_conninfo, shown
from tenantry.errors import PoolExhausted, ShardUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from tenantry.map import Shard
    from tenantry.settings import RouterSettings

S = TypeVar("S")


class Failures:
    """The last reason why a shard could not be reached."""

    def __init__(self) -> None:
        self.last: str | None = None

    def note(self, error: BaseException | None) -> None:
        """Remember why connecting failed; None after a success."""
        self.last = None if error is None else (str(error).splitlines() or [repr(error)])[0]


class PoolTable:
    """Which pool serves which shard, by the shard's nodes: a changed node list gets a new pool."""

    def __init__(self, settings: RouterSettings, given: dict[str, Any]) -> None:
        self.settings = settings
        self._given = given
        self._lock = threading.Lock()
        self._entries: dict[int, tuple[Shard, Any]] = {}

    def find(self, shard: Shard) -> Any | None:
        """Return what serves the shard, or None when it is new or its nodes have changed."""
        entry = self._entries.get(shard.id)
        if entry is not None and (entry[0] is shard or entry[0] == shard):
            return entry[1]
        return None

    def open(self, shard: Shard, make: Callable[[Shard, PoolTable], S]) -> tuple[S, S | None]:
        """Return what serves the shard now, and what served its former nodes and must be closed."""
        with self._lock:
            found = self.find(shard)
            if found is not None:
                return found, None
            before = self._entries.get(shard.id)
            serving = make(shard, self)
            self._entries[shard.id] = (shard, serving)
            return serving, None if before is None else before[1]

    def all(self) -> list[tuple[Shard, Any]]:
        """Return every shard that is served, and what serves it."""
        return list(self._entries.values())

    def clear(self) -> list[Any]:
        """Forget and return everything that serves."""
        with self._lock:
            found = [serving for _, serving in self._entries.values()]
            self._entries.clear()
            return found

    def options(self, shard: Shard, failures: Failures) -> dict[str, Any]:
        """Return the arguments of a psycopg pool for the shard's primary."""
        conninfo = primary_conninfo(self._given, shard.nodes, self.settings.application)
        return {
            "conninfo": conninfo,
            "kwargs": {
                # The prelude says BEGIN itself; psycopg must not say it again.
                "autocommit": True,
                "prepare_threshold": self.settings.prepare_threshold,
                "failures": failures,
                "kept": self.settings.prepared_max,
            },
            "min_size": 0,
            "max_size": self.settings.pool_size,
            "timeout": self.settings.acquire_timeout,
            "name": f"tenantry-{shard.name}",
            "close_returns": True,
            "open": False,
            "reconnect_timeout": self.settings.acquire_timeout,
        }


def refused(shard: Shard, pool: Any, failures: Failures, waited: float) -> Exception:
    """Say why no connection could be had from a pool."""
    where = shown(conninfo_to_dict(pool.conninfo))
    if failures.last is not None:
        return ShardUnavailable(
            f"no connection to the primary of shard {shard.name!r} at {where} in {waited:.1f} s: "
            f"{failures.last}; see `tenantry doctor`"
        )
    return PoolExhausted(
        f"all {pool.max_size} connections to shard {shard.name!r} at {where} were in use for "
        f"{waited:.1f} s: shorten transactions, or raise pool_size="
    )
