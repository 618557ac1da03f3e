"""How long each kind of operation took."""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import contextmanager
from statistics import quantiles
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Timings:
    """Durations by kind."""

    def __init__(self) -> None:
        self._taken: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def of(self, kind: str) -> Iterator[None]:
        """Time one operation; one that fails is not counted."""
        started = time.perf_counter()
        yield
        self.add(kind, time.perf_counter() - started)

    def add(self, kind: str, seconds: float) -> None:
        """Count an operation that was timed elsewhere."""
        self._taken[kind].append(seconds)

    def rows(self) -> list[dict[str, str | int | float]]:
        """Return kind, count, and p50 and p99 in milliseconds."""
        rows: list[dict[str, str | int | float]] = []
        for kind, taken in self._taken.items():
            rows.append(
                {
                    "operation": kind,
                    "count": len(taken),
                    "p50_ms": round(percentile(taken, 50) * 1000, 2),
                    "p99_ms": round(percentile(taken, 99) * 1000, 2),
                }
            )
        return rows


def percentile(taken: Sequence[float], which: int) -> float:
    """Return a percentile, which is never beyond what was measured.

    :param which: 1 to 99
    """
    if len(taken) == 1:
        return taken[0]
    return quantiles(taken, n=100, method="inclusive")[which - 1]
