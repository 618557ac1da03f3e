"""Worker beside worker, as services run them: one of ours, one of procrastinate's, no-op jobs.

Both run so many jobs at once. Ours takes as many as it has room for, and finishes together what
ends meanwhile; procrastinate's fetches and finishes one at a time.
"""

from __future__ import annotations

import asyncio
import threading
import time
from statistics import median
from typing import TYPE_CHECKING, Any

from tenantry import Worker
from tenantry_loadtest.bench.queue.ours import Tenantry
from tenantry_loadtest.bench.queue.peers import Procrastinate

if TYPE_CHECKING:
    from uuid import UUID

    from tenantry_loadtest.bench.stage import Stage


class _Countdown:
    def __init__(self, jobs: int) -> None:
        self._left = jobs
        self._lock = threading.Lock()
        self.over = threading.Event()

    def count(self, *_: object) -> None:
        with self._lock:
            self._left -= 1
            if self._left == 0:
                self.over.set()


def whole(
    on: Stage, tenant: UUID, conninfo: str, *, jobs: int, rounds: int
) -> list[dict[str, Any]]:
    """Let whole workers drain a queue in turn, with 1, 8 and 32 jobs at once.

    :param conninfo: an empty database for procrastinate
    """
    ours, theirs = Tenantry(on.router, tenant), Procrastinate(conninfo)
    rows = []
    for at_once in (1, 8, 32):
        took: dict[str, list[float]] = {"tenantry.Worker": [], "procrastinate.Worker": []}
        for _ in range(rounds):
            ours.enqueue(jobs)
            took["tenantry.Worker"].append(_ours(on, tenant, at_once, jobs))
            theirs.enqueue(jobs)
            took["procrastinate.Worker"].append(asyncio.run(_theirs(conninfo, at_once, jobs)))
        first = took["tenantry.Worker"]
        rows += [
            {
                "worker": name,
                "at_once": at_once,
                "jobs_per_s": round(median(jobs / it for it in laps)),
                "ours_times": round(median(b / a for a, b in zip(first, laps, strict=True)), 2),
            }
            for name, laps in took.items()
        ]
    return rows


def _ours(on: Stage, tenant: UUID, at_once: int, jobs: int) -> float:
    left = _Countdown(jobs)
    worker = Worker(
        on.router, {"noop": left.count}, tenants=[tenant], concurrency=at_once, listen=False
    )
    running = threading.Thread(target=worker.run)
    began = time.perf_counter()
    running.start()
    left.over.wait()
    # It returns when the last one is finished, too.
    worker.stop()
    running.join()
    return time.perf_counter() - began


async def _theirs(conninfo: str, at_once: int, jobs: int) -> float:
    import procrastinate  # noqa: PLC0415  an optional peer

    left = _Countdown(jobs)
    app = procrastinate.App(
        connector=procrastinate.PsycopgConnector(
            conninfo=conninfo, min_size=1, max_size=at_once + 2
        )
    )

    async def noop() -> None:
        left.count()

    app.task(name="noop")(noop)
    async with app.open_async():
        began = time.perf_counter()
        # It returns when nothing is left.
        await app.run_worker_async(
            concurrency=at_once, wait=False, install_signal_handlers=False, listen_notify=False
        )
        took = time.perf_counter() - began
    if not left.over.is_set():
        raise RuntimeError("procrastinate's worker left jobs")
    return took
