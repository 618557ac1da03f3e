"""What a load run reports of its calls: rows for a table."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from tenantry_loadtest.workload import Kind
from tenantry_ops.timings import Timings

if TYPE_CHECKING:
    from collections.abc import Iterator


class Tally:
    """Listens to Locust's request event.

    Locust's own statistics round to whole milliseconds, and a routed read takes less than one.
    """

    def __init__(self) -> None:
        self._timings = Timings()
        self._failures: Counter[str] = Counter()
        self._errors: Counter[tuple[str, str]] = Counter()
        self._examples: dict[tuple[str, str], str] = {}
        self.calls = 0

    def on_request(
        self, *, name: str, response_time: float, exception: Exception | None = None, **_: object
    ) -> None:
        """Count a call; only those that succeeded are timed."""
        self.calls += 1
        if exception is None:
            self._timings.add(name, response_time / 1000)
        else:
            self._failures[name] += 1
            self._note(name, exception)

    def on_user_error(self, *, exception: Exception, **_: object) -> None:
        """Count a fault of the load test itself."""
        self._note("user", exception)

    def rows(self, seconds: float) -> list[dict[str, Any]]:
        """Return count, rate, latencies and failures of each kind that was called."""
        taken = {row["operation"]: row for row in self._timings.rows()}
        return [
            {**_row(kind, taken.get(kind), seconds), "failures": self._failures[kind]}
            for kind in Kind
            if kind in taken or self._failures[kind]
        ]

    def errors(self) -> list[dict[str, Any]]:
        """Return every sort of error, how often it came, and what the first one said."""
        return list(self._sorts())

    def _sorts(self) -> Iterator[dict[str, Any]]:
        for (name, sort), times in self._errors.most_common():
            example = self._examples[name, sort]
            yield {"operation": name, "error": sort, "times": times, "first": example}

    def _note(self, name: str, error: Exception) -> None:
        sort = (name, type(error).__name__)
        self._errors[sort] += 1
        self._examples.setdefault(sort, str(error))


def _row(kind: Kind, taken: dict[str, Any] | None, seconds: float) -> dict[str, Any]:
    given = taken or {"count": 0, "p50_ms": None, "p99_ms": None}
    return {
        "operation": kind,
        "count": given["count"],
        "per_second": round(given["count"] / seconds, 1),
        "p50_ms": given["p50_ms"],
        "p99_ms": given["p99_ms"],
    }
