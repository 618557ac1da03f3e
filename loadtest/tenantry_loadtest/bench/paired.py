"""Compare ways to do one thing: side by side in one run, A B A B …, quoted as ratios.

A machine's speed drifts; the ratio of neighbours in time does not. Each round runs every way once,
on the same server, and the table quotes the median over rounds of each round's p50 divided by the
first way's.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Way:
    """One way to do the thing.

    :ivar once: does it once, given a counter
    """

    name: str
    once: Callable[[int], Any]


def compare(
    ways: list[Way], *, threads: int, rounds: int = 11, calls: int = 400
) -> list[dict[str, Any]]:
    """Return for each way its p50 in microseconds, and the ratio to the first way.

    :param calls: how often each thread does the thing in a round
    """
    for way in ways:
        # Long enough that every connection has prepared its statements, for every bucket.
        _p50(way, threads, calls * 3)
    taken: dict[str, list[float]] = {way.name: [] for way in ways}
    for _ in range(rounds):
        for way in ways:
            taken[way.name].append(_p50(way, threads, calls))
    base = taken[ways[0].name]
    return [
        {
            "way": name,
            "threads": threads,
            "p50_us": round(median(found), 1),
            "ratio": round(median(a / b for a, b in zip(found, base, strict=True)), 3),
        }
        for name, found in taken.items()
    ]


def _p50(way: Way, threads: int, calls: int) -> float:
    durations: list[float] = []

    def loop(start: int) -> None:
        mine = []
        for number in range(start, start + calls):
            began = time.perf_counter()
            way.once(number)
            mine.append(time.perf_counter() - began)
        durations.extend(mine)

    if threads == 1:
        loop(0)
    else:
        running = [threading.Thread(target=loop, args=(it * 7919,)) for it in range(threads)]
        for it in running:
            it.start()
        for it in running:
            it.join()
    return median(durations) * 1e6
