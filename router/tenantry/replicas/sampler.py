"""The thread that asks the nodes of every shard in use where they stand (design, section 5).

One for all routers of a process that connect alike (:mod:`tenantry.replicas.lookout`); each node is
asked some times a second on one connection of the sampler's own. It finds a new primary by itself,
writes down a timeline that nobody has certified yet, and publishes what it learns to the watches of
every router.
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
from tenantry.replicas.link import FAILURES, Link
from tenantry.replicas.view import Identity, Sample, ShardState, ShardView
from tenantry.replicas.watch import ShardWatch
from tenantry.sqlstates import first_line

if TYPE_CHECKING:
    from tenantry.map import Shard

logger = logging.getLogger("tenantry")

#: Seconds after which a node that was asked counts as silent.
_PATIENCE_S = 1.0
#: How much sooner than usual a caller who waits for news has the nodes asked.
_HURRY = 10


class _Sampled:
    """A shard that is being watched: its view, its links, who is told what.

    :ivar state: what every watch was told last
    """

    def __init__(self, shard: Shard, given: dict[str, Any]) -> None:
        self.shard = shard
        self.view = ShardView(shard)
        self.state = ShardState()
        self.watches: list[ShardWatch] = []
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
    """Ask every node of the shards in use, and publish what they say.

    :param given: the parameters of every connection: who connects, and how
    :param period: seconds between questions
    """

    def __init__(self, given: dict[str, Any], period: float) -> None:
        self._given = given
        self._period = period
        self._lock = threading.Lock()
        self._shards: dict[Shard, _Sampled] = {}
        self._dropped: list[_Sampled] = []
        self._hurried = False
        self._stopped = False
        self._selector = selectors.DefaultSelector()
        self._wake, self._waker = socket.socketpair()
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="tenantry-sampler", daemon=True)

    def start(self) -> None:
        """Start the thread, once."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread, wait for it, and close its connections."""
        self._stopped = True
        self._waker.send(b"\0")
        self._thread.join()
        for sampled in (*self._shards.values(), *self._dropped):
            self._close(sampled)
        self._selector.close()
        self._wake.close()
        self._waker.close()

    def watch(self, shard: Shard) -> ShardWatch:
        """Return a new watch of a shard, which is asked as long as somebody watches it."""
        watch = ShardWatch(shard, self.hurry)
        with self._lock:
            sampled = self._shards.get(shard)
            if sampled is None:
                sampled = self._shards[shard] = _Sampled(shard, self._given)
            sampled.watches.append(watch)
            watch.publish(sampled.state)
        self.hurry()
        return watch

    def unwatch(self, watch: ShardWatch) -> None:
        """Close a watch; a shard that nobody watches any more is left alone."""
        with self._lock:
            sampled = self._shards[watch.shard]
            sampled.watches.remove(watch)
            last = not sampled.watches
            if last:
                self._dropped.append(self._shards.pop(watch.shard))
        watch.close()
        if last:
            # The thread closes what is dropped.
            self.hurry()

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
        for sampled in shards:
            if sampled.pending:
                # What is known of it although a node takes its time.
                self._publish(sampled)
            for link in sampled.links.values():
                if link.answer_by is not None and now > link.answer_by:
                    self._broken(sampled, link, f"did not answer within {_PATIENCE_S:g} s")
                else:
                    self._begin(sampled, link, now)

    def _begin(self, sampled: _Sampled, link: Link, now: float) -> None:
        try:
            waited_for = link.begin(now)
        except FAILURES as error:
            self._broken(sampled, link, first_line(error))
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
            except FAILURES as error:
                self._broken(sampled, link, first_line(error))
        for sampled in changed.values():
            if not sampled.pending:
                self._publish(sampled)

    def _publish(self, sampled: _Sampled) -> None:
        self._tell(sampled)
        primary = sampled.state.primary
        if sampled.resampled and primary is not None:
            sampled.resampled = False
            self._follow_history(sampled, sampled.links[primary.name])

    def _tell(self, sampled: _Sampled) -> None:
        state = sampled.view.state()
        with self._lock:
            sampled.state = state
            for watch in sampled.watches:
                watch.publish(state)

    def _ready(self, sampled: _Sampled, link: Link) -> None:
        if link.identity is None and not link.connected:
            # While it connects, libpq may close its socket and take another of the same number.
            self._forget(link)
        found = link.ready()
        if isinstance(found, Sample):
            sampled.view.noted(link.name, found)
            sampled.resampled = True
        elif isinstance(found, int):
            self._await(sampled, link, found)
        elif isinstance(found, Identity):
            sampled.view.identified(link.name, found)
            self._await(sampled, link, link.begin(time.monotonic()) or selectors.EVENT_READ)
        elif isinstance(found, list):
            sampled.view.lineage = tuple(found)
        else:
            # Certified, or caught in the middle of a promotion: the next answer tells more.
            self._hurried = True

    def _follow_history(self, sampled: _Sampled, link: Link) -> None:
        """Certify the primary's timeline if nobody did; read its lineage when it is news."""
        state = sampled.state
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
                sampled.shard.name,
                link.name,
                state.timeline,
            )
            self._await(sampled, link, link.certify(uncertified[1], now))
        except FAILURES as error:
            self._broken(sampled, link, first_line(error))

    def _broken(self, sampled: _Sampled, link: Link, why: str) -> None:
        self._forget(link)
        link.close(time.monotonic())
        sampled.view.lost(link.name, why)
        self._tell(sampled)

    def _forget(self, link: Link) -> None:
        if link.awaited is not None:
            self._selector.unregister(link.awaited[0])
            link.awaited = None

    def _close(self, sampled: _Sampled) -> None:
        for watch in sampled.watches:
            watch.close()
        for link in sampled.links.values():
            self._forget(link)
            link.close(0.0)
