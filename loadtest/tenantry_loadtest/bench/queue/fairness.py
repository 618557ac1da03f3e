"""Does a tenant with a long backlog keep one with ten tasks waiting? Asked of a worker."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from tenantry import Worker, tasks

if TYPE_CHECKING:
    from uuid import UUID

    from tenantry import Job
    from tenantry_loadtest.bench.stage import Stage

_FEW = 10
_READY = """
INSERT INTO {} (tenant_id, id, kind, step, run_after)
SELECT %s, gen_random_uuid(), 'noop', 1, now() - interval '1 hour'
FROM generate_series(1, %s)
"""


def fairness(on: Stage, big: UUID, small: UUID, *, ready: int) -> list[dict[str, Any]]:
    """Measure how long ten tasks of a tenant take: alone, and after another's backlog."""
    rows = [{"backlog": "0", **_ten(on, small, [small])}]
    table = sql.Identifier(on.router.where(tenant=big).schema, "tasks")
    superuser = on.fleet.superuser_conninfo(on.fleet.shards[0].primary, "tenantry")
    with psycopg.connect(superuser, autocommit=True) as conn:
        conn.execute(sql.SQL(_READY).format(table), (big, ready))
        conn.execute(sql.SQL("VACUUM ANALYZE {}").format(table))
    rows.append({"backlog": f"{ready:,}", **_ten(on, small, [big, small])})
    return rows


def _ten(on: Stage, small: UUID, served: list[UUID]) -> dict[str, Any]:
    """Let a worker find ten tasks; say when the last was done, and what was done before it."""
    few = [tasks.NewTask("noop") for _ in range(_FEW)]
    # Untold and last in line: the worker has to find out by itself.
    on.router.run(tasks.submit(small, few, wake=False), tenant=small)
    over = threading.Event()
    done = {"small": 0, "others": 0}

    def noop(job: Job) -> None:
        if over.is_set():
            return
        done["small" if job.claim.tenant == small else "others"] += 1
        if done["small"] == _FEW:
            over.set()

    worker = Worker(on.router, {"noop": noop}, tenants=served, listen=False)
    thread = threading.Thread(target=worker.run)
    began = time.perf_counter()
    thread.start()
    over.wait()
    seconds = time.perf_counter() - began
    worker.stop()
    thread.join()
    return {"ten_done_s": round(seconds, 3), "others_done_before": done["others"]}
