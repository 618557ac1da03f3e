"""Whose turn it is: tenants' queues in a ring, so that none waits for another's backlog. Pure.

A turn is one claim of at most one batch. Whoever may have more goes to the end, so a tenant with a
million ready tasks and one with ten get as many turns, and the latter waits for at most one batch
of every other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID


class Turn(NamedTuple):
    """A queue of a tenant; without a queue, the tenant's schedules."""

    tenant: UUID
    queue: str | None


class Ring:
    """Turns in the order in which they come; each is in it once."""

    def __init__(self) -> None:
        self._waiting: dict[Turn, None] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def offer(self, turns: Iterable[Turn]) -> None:
        """Let turns come after all that wait; whoever waits keeps its place."""
        for turn in turns:
            self._waiting.setdefault(turn)

    def take(self) -> Turn | None:
        """Return the next turn, which leaves the ring."""
        turn = next(iter(self._waiting), None)
        if turn is not None:
            del self._waiting[turn]
        return turn
