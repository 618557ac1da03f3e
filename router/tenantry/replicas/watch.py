"""What a router knows of a shard's nodes, shared by the sampler and the router's calls."""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING, Any

from tenantry.errors import ShardUnavailable, SplitBrain
from tenantry.replicas.view import ShardState

if TYPE_CHECKING:
    from collections.abc import Callable

    from tenantry.map import Shard

_FIRST_S, _LONGEST_S = 0.25, 30.0


class ShardWatch:
    """The newest state of a shard, who waits for the next, and which replicas are set aside."""

    def __init__(
        self,
        shard: Shard,
        hurry: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.shard = shard
        self._clock = clock
        self.state = ShardState()
        self._hurry = hurry
        self._lock = threading.Lock()
        self._waiting: set[Callable[[], None]] = set()
        self._aside: dict[str, tuple[float, float]] = {}
        self.closed = False

    def publish(self, state: ShardState) -> None:
        """Replace the state, and wake who waits for news."""
        with self._lock:
            self.state = state
            waiting, self._waiting = self._waiting, set()
        for wake in waiting:
            wake()

    def summary(self, now: float) -> dict[str, Any]:
        """Return what is known in words and numbers, for operators."""
        state = self.state
        return {
            "primary": None if state.primary is None else state.primary.name,
            "timeline": state.timeline,
            "writable": [it.name for it in state.writable],
            "replicas": {
                it.node.name: _age_ms(state.trail.as_of(it.position), now) for it in state.replicas
            },
            "refused": dict(state.refused),
        }

    def close(self) -> None:
        """Let nobody wait any more."""
        self.closed = True
        self.publish(self.state)

    def wake_at_news(self, wake: Callable[[], None]) -> None:
        """Call back once when there is news, or none to come; and hurry the sampler.

        The sampler's thread calls, or whoever closes the watch, with the sampler's lock held: the
        callback must neither wait nor fail.
        """
        with self._lock:
            self._waiting.add(wake)
        self._hurry()

    def forget(self, wake: Callable[[], None]) -> None:
        """Do not call back any more."""
        with self._lock:
            self._waiting.discard(wake)

    def set_aside(self, node: str) -> None:
        """Leave a replica that failed out for a while, longer at each failure in a row."""
        with self._lock:
            _, pause = self._aside.get(node, (0.0, _FIRST_S / 2))
            pause = min(pause * 2, _LONGEST_S)
            jitter = random.uniform(0.75, 1.25)  # noqa: S311  jitter is not a secret
            self._aside[node] = (self._clock() + pause * jitter, pause)

    def hung(self, node: str, seconds: float) -> None:
        """Set a replica aside on which a caller's deadline came, if it had time to answer."""
        if seconds >= _FIRST_S:
            self.set_aside(node)

    def served(self, node: str) -> None:
        """Take a replica that answered back in."""
        if node in self._aside:
            with self._lock:
                self._aside.pop(node, None)

    def failed_last(self, node: str) -> bool:
        """Say whether a replica has not answered since it failed."""
        return node in self._aside

    def is_aside(self, node: str, now: float) -> bool:
        """Say whether a replica is left out now."""
        found = self._aside.get(node)
        return found is not None and found[0] > now

    def check_one_primary(self) -> None:
        """Refuse to write while two nodes take writes.

        :raises SplitBrain: naming both
        """
        if self.state.split:
            raise split_brain(self.shard, self.state)

    def admit(self, label: str, timeline: int) -> None:
        """Refuse a node that takes writes on a timeline that was left.

        :raises SplitBrain: when two nodes take writes now
        :raises ShardUnavailable: when the node was deposed
        """
        self.check_one_primary()
        if timeline < self.state.timeline:
            raise ShardUnavailable(
                f"{label} takes writes on timeline {timeline} of shard {self.shard.name!r}, but "
                f"timeline {self.state.timeline} was seen: it was deposed; make it a replica of "
                "the new primary"
            )


def closed_watch(shard: Shard) -> ShardWatch:
    """Return a watch that knows nothing and will not."""
    watch = ShardWatch(shard, lambda: None)
    watch.close()
    return watch


def split_brain(shard: Shard, state: ShardState) -> SplitBrain:
    """Return the error that names the nodes which take writes at once."""
    names = " and ".join(it.name for it in state.writable)
    return SplitBrain(
        f"nodes {names} of shard {shard.name!r} take writes at once: nothing is written until one "
        "of them is stopped or read-only; see `tenantry doctor`"
    )


def _age_ms(as_of: float | None, now: float) -> float | None:
    return None if as_of is None else round((now - as_of) * 1000, 1)
