"""How long may be waited for locks: shortly, often, and not for ever. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tenantry_schema.errors import InvalidConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

_LONGEST_PAUSE = 1.0
_GROWTH = 1.5


@dataclass(frozen=True, slots=True)
class Budget:
    """What a table's rollover may spend on locks.

    :ivar lock_timeout: seconds that one attempt may wait, which is how long writers may queue up
        behind it; must be less than the server's ``deadlock_timeout``, so that a cycle of locks
        ends with us and never with an application's statement
    :ivar total: seconds for all attempts of one table
    :raises InvalidConfig: for numbers that cannot be
    """

    lock_timeout: float = 0.05
    total: float = 60.0

    def __post_init__(self) -> None:
        if not 0.001 <= self.lock_timeout <= 10 or not 0 < self.total <= 86_400:
            raise InvalidConfig(
                f"a lock timeout is 0.001 to 10 seconds and a budget up to a day, not "
                f"{self.lock_timeout} and {self.total}"
            )

    @property
    def milliseconds(self) -> int:
        """The lock timeout as Postgres takes it."""
        return max(1, round(self.lock_timeout * 1000))

    def pauses(self, rng: random.Random | None = None) -> Iterator[float]:
        """Yield how long to stay away between attempts: growing, and never in step with others."""
        jitter = rng or random.Random()  # noqa: S311  nothing is kept secret by it
        pause = self.lock_timeout
        while True:
            yield jitter.uniform(0.5, 1.5) * pause
            pause = min(pause * _GROWTH, _LONGEST_PAUSE)
