"""How often a failed task is tried again, and after how long: pure."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from tenantry_schema.states import EXHAUSTED
from tenantry_schema.store import checks

_INT4 = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Retry:
    """What happens when an attempt fails.

    :ivar attempts: how many may fail before the task is given up
    :ivar backoff: seconds before the second attempt; doubled for each further one
    :ivar most: seconds that the back-off never exceeds
    :ivar then: ``failed`` fails what needs the task; ``dead`` keeps it for a person to look at, and
        what needs it waiting
    :ivar crashes: how many leases may run out (a worker died, or hung) before it is given up
    """

    attempts: int = 3
    backoff: float = 1.0
    most: float = 300.0
    then: Literal["failed", "dead"] = "failed"
    crashes: int = 5

    def __post_init__(self) -> None:
        checks.whole("attempts", self.attempts, least=1, most=10_000)
        checks.whole("crashes", self.crashes, least=0, most=10_000)
        least = timedelta(milliseconds=1)
        first = checks.span("backoff", self.backoff, least=least)
        checks.span("most", self.most, least=first)
        checks.whole("backoff_ms", self.backoff_ms, least=1, most=_INT4)
        checks.whole("backoff_most_ms", self.backoff_most_ms, least=1, most=_INT4)
        checks.choice("then", self.then, EXHAUSTED)

    @property
    def backoff_ms(self) -> int:
        """The first back-off in milliseconds."""
        return max(1, round(self.backoff * 1000))

    @property
    def backoff_most_ms(self) -> int:
        """The longest back-off in milliseconds."""
        return max(self.backoff_ms, round(self.most * 1000))


def backoff(
    failures: int, *, first_ms: int, most_ms: int, jitter: float | None = None
) -> timedelta:
    """Return how long to wait before the next attempt.

    Exponential, with equal jitter: between half of the ceiling and all of it, so that tasks that
    failed together do not come back together, and none comes back at once.

    :param failures: how many attempts have failed, at least 1
    :param jitter: a number from 0 to 1, default a random one
    """
    share = random.random() if jitter is None else jitter  # noqa: S311  jitter is not a secret
    # Beyond 31 doublings every ceiling is the longest one.
    ceiling = min(most_ms, first_ms << min(failures - 1, 31))
    return timedelta(milliseconds=ceiling * (0.5 + share / 2))
