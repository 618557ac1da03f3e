"""The thread that asks the nodes of every shard in use where they stand (design, section 5).

One for a router, not for a session; each node is asked some times a second on one connection of the
sampler's own. It finds a new primary by itself, writes down a timeline that nobody has certified
yet, and publishes what it learns to the shards' watches.
"""

from __future__ import annotations

import logging
import selectors
import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tenantry.conninfo import node_conninfo
from tenantry.replicas.link import Link, LinkBroken
from tenantry.replicas.view import Identity, Sample, ShardState, ShardView
from tenantry.replicas.watch import ShardWatch

if TYPE_CHECKING:
    from tenantry.map import Shard
    from tenantry.settings import RouterSettings

logger = logging.getLogger("tenantry")

#: Seconds after which a node that was asked counts as silent.
_PATIENCE_S = 1.0
#: How much sooner than usual a caller who waits for news has the nodes asked.
_HURRY = 10


class _Sampled:
    """A shard that is being watched: its view, its links, who is told."""

    def __init__(self, shard: Shard, given: dict[str, Any], sampler: Sampler) -> None:
        self.view = ShardView(shard)
        self.watch = ShardWatch(shard, sampler.hurry)
        #: Whether a node said where it stands since its history was looked at.
        self.resampled = False
        self.links = {
            node.name: Link(node.name, node_conninfo(given, node, "tenantry-sampler"), _PATIENCE_S)
            for node in shard.nodes
        }

    @property
    def pending(self) -> bool:
        """Whether a node has not answered yet."""
        return any(link.answer_by is not None for link in self.links.values())


class Sampler:
    """Ask every node of the shards in use, and publish what they say."""

    def __init__(self, settings: RouterSettings, given: dict[str, Any]) -> None:
        self._given = given
        self._period = settings.sample_interval
        self._lock = threading.Lock()
        self._shards: dict[int, _Sampled] = {}
        self._dropped: list[_Sampled] = []
        self._selector: selectors.BaseSelector
        self._hurried = False
        self._stopped = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread; after it was stopped it may be started again."""
        self._stopped = False
        self._selector = selectors.DefaultSelector()
        self._wake, self._waker = socket.socketpair()
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="tenantry-sampler", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread, wait for it, and close its connections."""
        if self._thread is not None:
            self._stopped = True
            self._waker.send(b"\0")
            self._thread.join()
            self._thread = None
            for sampled in (*self._shards.values(), *self._dropped):
                self._close(sampled)
            self._shards.clear()
            self._dropped.clear()
            self._selector.close()
            self._wake.close()
            self._waker.close()

    def watch(self, shard: Shard) -> ShardWatch:
        """Return what is known of a shard, which is watched from now on."""
        found = self._shards.get(shard.id)
        if found is not None and (found.watch.shard is shard or found.watch.shard == shard):
            return found.watch
        with self._lock:
            found = self._shards.get(shard.id)
            if found is None or found.watch.shard != shard:
                if found is not None:
                    self._dropped.append(found)
                found = self._shards[shard.id] = _Sampled(shard, self._given, self)
        self.hurry()
        return found.watch

    def hurry(self) -> None:
        """Ask sooner than usual, once."""
        if not self._hurried:
            self._hurried = True
            with suppress(OSError):
                self._waker.send(b"\0")

    def _run(self) -> None:
        due = 0.0
        while not self._stopped:
            now = time.monotonic()
            if self._hurried:
                self._hurried = False
                due = min(due, now + self._period / _HURRY)
            if now >= due:
                self._tick(now)
                due = now + self._period
            events = self._selector.select(max(0.0, min(due - now, _PATIENCE_S)))
            self._handle(events)

    def _tick(self, now: float) -> None:
        with self._lock:
            shards, dropped = list(self._shards.values()), self._dropped
            self._dropped = []
        for sampled in dropped:
            self._close(sampled)
        self._publish_late(shards)
        for sampled in shards:
            for link in sampled.links.values():
                if link.answer_by is not None and now > link.answer_by:
                    self._broken(sampled, link, f"did not answer within {_PATIENCE_S:g} s")
                else:
                    self._begin(sampled, link, now)

    def _publish_late(self, shards: list[_Sampled]) -> None:
        """Publish what is known of shards of which a node takes its time."""
        for sampled in shards:
            if sampled.pending:
                self._publish(sampled)

    def _begin(self, sampled: _Sampled, link: Link, now: float) -> None:
        try:
            waited_for = link.begin(now)
        except LinkBroken as error:
            self._broken(sampled, link, str(error))
        else:
            if waited_for is not None:
                self._await(sampled, link, waited_for)

    def _await(self, sampled: _Sampled, link: Link, waited_for: int) -> None:
        if link.awaited is None:
            link.awaited = link.fileno(), waited_for
            self._selector.register(*link.awaited, (sampled, link))
        elif link.awaited[1] != waited_for:
            link.awaited = link.awaited[0], waited_for
            self._selector.modify(*link.awaited, (sampled, link))

    def _handle(self, events: list[tuple[selectors.SelectorKey, int]]) -> None:
        changed = {}
        for key, _ in events:
            if key.data is None:
                self._wake.recv(64)
                continue
            sampled, link = key.data
            changed[id(sampled)] = sampled
            try:
                self._ready(sampled, link)
            except LinkBroken as error:
                self._broken(sampled, link, str(error))
        for sampled in changed.values():
            if not sampled.pending:
                self._publish(sampled)

    def _publish(self, sampled: _Sampled) -> None:
        state = sampled.view.state()
        sampled.watch.publish(state)
        if sampled.resampled and state.primary is not None:
            sampled.resampled = False
            self._follow_history(sampled, state, sampled.links[state.primary.name])

    def _ready(self, sampled: _Sampled, link: Link) -> None:
        now = time.monotonic()
        if not link.connected:
            # While it connects, libpq may close its socket and take another of the same number.
            self._forget(link)
        found = link.ready(now)
        if isinstance(found, int):
            self._await(sampled, link, found)
        elif isinstance(found, Identity):
            sampled.view.identified(link.name, found)
            self._await(sampled, link, link.begin(now) or selectors.EVENT_READ)
        elif isinstance(found, Sample):
            sampled.view.noted(link.name, found)
            sampled.resampled = True
        elif isinstance(found, tuple):
            sampled.view.lineage = found
        else:
            # Certified, or caught in the middle of a promotion: the next answer tells more.
            self._hurried = True

    def _follow_history(self, sampled: _Sampled, state: ShardState, link: Link) -> None:
        """Certify the primary's timeline if nobody did; read its lineage when it is news."""
        known = bool(state.lineage) and state.lineage[-1].timeline == state.timeline
        if known or link.answer_by is not None:
            return
        now = time.monotonic()
        uncertified = sampled.view.uncertified()
        try:
            if uncertified is None:
                self._await(sampled, link, link.lineage(now))
                return
            logger.warning(
                "shard %r has a primary on a new timeline: %s (timeline %d)",
                sampled.watch.shard.name,
                link.name,
                state.timeline,
            )
            self._await(sampled, link, link.certify(uncertified[1], now))
        except LinkBroken as error:
            self._broken(sampled, link, str(error))

    def _broken(self, sampled: _Sampled, link: Link, why: str) -> None:
        self._forget(link)
        link.close(time.monotonic())
        sampled.view.lost(link.name, why)
        sampled.watch.publish(sampled.view.state())

    def _forget(self, link: Link) -> None:
        if link.awaited is not None:
            self._selector.unregister(link.awaited[0])
            link.awaited = None

    def _close(self, sampled: _Sampled) -> None:
        sampled.watch.close()
        for link in sampled.links.values():
            self._forget(link)
            link.close(0.0)
