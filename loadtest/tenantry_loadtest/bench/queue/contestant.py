"""What a queue must do to take part."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: Jobs that are stored in one transaction.
_TOGETHER = 1000


def portions(count: int) -> Iterator[int]:
    """Give how many jobs to store in each transaction."""
    for start in range(0, count, _TOGETHER):
        yield min(_TOGETHER, count - start)


class Hand(Protocol):
    """What one worker holds: a connection of its own, or a router that it shares."""

    def take(self, most: int) -> Sequence[Any]:
        """Claim at most so many jobs, and commit."""

    def finish(self, jobs: Sequence[Any]) -> None:
        """Say that they are done, and commit."""

    def close(self) -> None:
        """Give up what is held."""


class Contestant(Protocol):
    """A queue on the server.

    :ivar batches: whether it claims more than one job at once
    """

    name: str
    batches: bool

    def enqueue(self, count: int) -> None:
        """Store jobs, a thousand in a transaction."""

    def hand(self) -> Hand:
        """Return what a new worker holds."""
