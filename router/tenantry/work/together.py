"""Who shares a flight: finishes that come while one of their tenant is in the air. Pure.

One finish takes a transaction; while it is away others come, and all of them take one more. So
nobody waits for company, and the more there is to finish the less each one costs (what databases
call group commit). Everybody answers for itself: whoever finds nothing in the air is the pilot of
one flight, and names the next pilot when it lands; whoever waits too long leaves and goes alone.
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

T = TypeVar("T")

#: Who may share one flight; results have at most 256 KiB each.
MOST_ABOARD = 100


class Told(Enum):
    """What a passenger is told in the end.

    ``PILOT``: to fly itself; ``DONE``: that it arrived with the others; ``ALONE``: that it did not.
    """

    PILOT = auto()
    ALONE = auto()
    DONE = auto()


@dataclass(frozen=True, slots=True, eq=False)
class Seat(Generic[T]):
    """A place in the queue of a tenant, and what its holder is told."""

    one: T
    told: Future[Told] = field(default_factory=Future)


class _Air(Generic[T]):
    def __init__(self, pilot: Seat[T]) -> None:
        self.pilot = pilot
        self.waiting: deque[Seat[T]] = deque()


class Together(Generic[T]):
    """The flights of every tenant; safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._air: dict[UUID, _Air[T]] = {}

    def board(self, tenant: UUID, one: T) -> Seat[T]:
        """Take a seat in the next flight; its holder is the pilot when nothing is in the air."""
        seat = Seat(one)
        with self._lock:
            air = self._air.get(tenant)
            if air is None:
                self._air[tenant] = _Air(seat)
            else:
                air.waiting.append(seat)
        if air is None:
            seat.told.set_result(Told.PILOT)
        return seat

    def take_off(self, tenant: UUID) -> list[Seat[T]]:
        """Return who flies: the pilot, and those who wait."""
        with self._lock:
            air = self._air[tenant]
            some = min(len(air.waiting), MOST_ABOARD - 1)
            return [air.pilot, *(air.waiting.popleft() for _ in range(some))]

    def land(self, tenant: UUID, told: Iterable[tuple[Seat[T], Told]]) -> None:
        """Tell those who flew what became of them, and name the next pilot."""
        self._name_pilot(tenant)
        for seat, what in told:
            if not seat.told.done():
                seat.told.set_result(what)

    def leave(self, tenant: UUID, seat: Seat[T]) -> bool:
        """Give up a seat in the queue; say whether its holder still waited."""
        with self._lock:
            air = self._air.get(tenant)
            if air is None or seat not in air.waiting:
                return False
            air.waiting.remove(seat)
            return True

    def abandon(self, tenant: UUID, seat: Seat[T]) -> None:
        """Give up a seat whatever it is: a pilot that will not fly names the next one."""
        if self.leave(tenant, seat):
            return
        with self._lock:
            air = self._air.get(tenant)
            piloting = air is not None and air.pilot is seat
        if piloting:
            self._name_pilot(tenant)

    def _name_pilot(self, tenant: UUID) -> None:
        with self._lock:
            air = self._air[tenant]
            if not air.waiting:
                del self._air[tenant]
                return
            pilot = air.pilot = air.waiting.popleft()
        pilot.told.set_result(Told.PILOT)
