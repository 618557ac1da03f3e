"""What a router sees of its shards' nodes, by the one sampler of its process.

Routers that connect to nodes alike (user, password file, TLS) and ask as often share a sampler: a
node has one connection of it and is asked once, whatever routers and sessions there are.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from tenantry.conninfo import who
from tenantry.replicas.sampler import Sampler
from tenantry.replicas.watch import closed_watch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tenantry.map import Shard
    from tenantry.replicas.watch import ShardWatch
    from tenantry.settings import RouterSettings

#: How a sampler connects, and how often it asks.
_Kind = tuple[frozenset[tuple[str, Any]], float]


class _Samplers:
    """The samplers of this process, each with the number of routers that look through it."""

    def __init__(self) -> None:
        self.forget()
        # A fork has none of its parent's threads, and may come while one of them holds the lock.
        os.register_at_fork(after_in_child=self.forget)

    def forget(self) -> None:
        """Leave what runs to the process that started it."""
        self._lock = threading.Lock()
        self._running: dict[_Kind, tuple[Sampler, int]] = {}

    def join(self, kind: _Kind) -> Sampler:
        """Return the sampler of a kind; the first router starts it."""
        with self._lock:
            sampler, routers = self._running.get(kind, (None, 0))
            if sampler is None:
                given, period = kind
                sampler = Sampler(dict(given), period)
                sampler.start()
            self._running[kind] = sampler, routers + 1
            return sampler

    def leave(self, kind: _Kind, watches: Sequence[ShardWatch]) -> None:
        """Close a router's watches, and stop the sampler when it was the last."""
        with self._lock:
            sampler, routers = self._running.pop(kind)
            for watch in watches:
                sampler.unwatch(watch)
            if routers > 1:
                self._running[kind] = sampler, routers - 1
                return
        sampler.stop()


_samplers = _Samplers()


class Lookout:
    """The shards that one router watches, each as its map describes it now."""

    def __init__(self, settings: RouterSettings, given: dict[str, Any]) -> None:
        self._kind = frozenset(who(given).items()), settings.sample_interval
        self._lock = threading.Lock()
        self._watches: dict[int, ShardWatch] = {}
        self._sampler: Sampler | None = None

    def start(self) -> None:
        """Begin to look; after it was stopped it may be started again."""
        self._sampler = _samplers.join(self._kind)

    def stop(self) -> None:
        """Close every watch, and the connections that no other router needs."""
        with self._lock:
            joined, self._sampler = self._sampler is not None, None
            watches = list(self._watches.values())
            self._watches.clear()
        if joined:
            _samplers.leave(self._kind, watches)

    def watch(self, shard: Shard) -> ShardWatch:
        """Return what is known of a shard, which is watched from now on."""
        found = self._watches.get(shard.id)
        if found is not None and (found.shard is shard or found.shard == shard):
            return found
        with self._lock:
            former = self._watches.get(shard.id)
            if former is not None and former.shard == shard:
                return former
            if self._sampler is None:
                # A call that was under way when the router was closed.
                return closed_watch(shard)
            watch = self._watches[shard.id] = self._sampler.watch(shard)
            if former is not None:
                self._sampler.unwatch(former)
            return watch
