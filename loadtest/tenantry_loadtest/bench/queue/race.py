"""Let workers drain a queue, and measure: jobs per second, and how long a claim takes."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from tenantry_ops.timings import percentile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tenantry_loadtest.bench.queue.contestant import Contestant


@dataclass(frozen=True, slots=True)
class Lap:
    """One queue drained once.

    :ivar enqueued: jobs stored per second
    :ivar drained: jobs claimed and finished per second
    :ivar claims: seconds of each claim that gave something
    """

    enqueued: float
    drained: float
    claims: list[float]


def lap(who: Contestant, *, workers: int, batch: int, jobs: int) -> Lap:
    """Store jobs, and let workers claim and finish all of them."""
    began = time.perf_counter()
    who.enqueue(jobs)
    enqueued = jobs / (time.perf_counter() - began)
    hands = [who.hand() for _ in range(workers)]
    claims: list[float] = []
    left = threading.Semaphore(0)
    start = threading.Barrier(workers + 1)
    failures: list[BaseException] = []
    done = [0] * workers

    def work(number: int) -> None:
        hand, mine = hands[number], []
        start.wait()
        try:
            while sum(done) < jobs:
                at = time.perf_counter()
                taken = hand.take(batch)
                if not taken:
                    continue
                mine.append(time.perf_counter() - at)
                hand.finish(taken)
                done[number] += len(taken)
        except BaseException as error:
            failures.append(error)
            done[number] = jobs
        claims.extend(mine)
        left.release()

    threads = [threading.Thread(target=work, args=(it,), daemon=True) for it in range(workers)]
    for thread in threads:
        thread.start()
    start.wait()
    began = time.perf_counter()
    for _ in threads:
        left.acquire()
    # A hand may have kept what is to be finished until now. To close a connection takes no time.
    for hand in hands:
        hand.close()
    drained = jobs / (time.perf_counter() - began)
    if failures:
        raise failures[0]
    return Lap(enqueued, drained, claims)


def race(
    all_of: Sequence[Contestant], *, workers: int, batch: int, jobs: int, rounds: int
) -> list[dict[str, Any]]:
    """Let everyone run in turn, round by round; quote ratios to the first of the same round.

    :param batch: of one claim; who cannot claim so many at once claims one
    """
    laps: dict[str, list[Lap]] = {who.name: [] for who in all_of}
    for _ in range(rounds):
        for who in all_of:
            laps[who.name].append(lap(who, workers=workers, batch=batch, jobs=jobs))
    first = laps[all_of[0].name]
    return [
        {
            "queue": who.name,
            "workers": workers,
            "batch": batch if who.batches else 1,
            "enqueued_per_s": round(median(it.enqueued for it in laps[who.name])),
            "jobs_per_s": round(median(it.drained for it in laps[who.name])),
            "ours_times": round(
                median(a.drained / b.drained for a, b in zip(first, laps[who.name], strict=True)), 2
            ),
            "claim_p99_ms": round(
                percentile([at for it in laps[who.name] for at in it.claims], 99) * 1000, 2
            ),
        }
        for who in all_of
    ]
