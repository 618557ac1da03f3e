"""What a claim costs when the table is large, or an old snapshot is held; what a graph costs."""

from __future__ import annotations

import time
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import psycopg
from psycopg import sql

from tenantry import tasks
from tenantry_loadtest.bench.queue.ours import Tenantry
from tenantry_ops.timings import percentile

if TYPE_CHECKING:
    from tenantry_loadtest.bench.stage import Stage

_CLAIMS = 1000
_GRAPH = 20_000

_FINISHED = """
INSERT INTO {} (tenant_id, id, kind, state, change, step, attempt, fence, updated_at)
SELECT %s, gen_random_uuid(), 'noop', 'cancelled', 'ready>cancelled', 2, 1, 1, now()
FROM generate_series(1, %s)
"""
_BARE = """
CREATE TABLE plain.bare_tasks (LIKE {} INCLUDING DEFAULTS);
CREATE TABLE plain.bare_edges (LIKE {} INCLUDING DEFAULTS)
"""
_BARE_TASKS = """
INSERT INTO plain.bare_tasks (tenant_id, id, kind, payload, state, unmet, bucket)
SELECT %s, id, kind, payload::jsonb, state, unmet, 0
FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::text[], %s::int[])
    AS given (id, kind, payload, state, unmet)
"""
_BARE_EDGES = """
INSERT INTO plain.bare_edges (tenant_id, task_id, needs_id, on_failure, bucket)
SELECT %s, task_id, needs_id, 'fail', 0
FROM unnest(%s::uuid[], %s::uuid[]) AS given (task_id, needs_id)
"""


def latencies(on: Stage, tenant: UUID, *, finished: int, ready: int) -> list[dict[str, Any]]:
    """Measure claims of one task: on an empty table, a large one, and under an old snapshot."""
    ours = Tenantry(on.router, tenant)
    tasks_table = sql.Identifier(on.router.where(tenant=tenant).schema, "tasks")
    superuser = on.fleet.superuser_conninfo(on.fleet.shards[0].primary, "tenantry")
    _claims(ours, 200)
    rows = [{"table": "empty", **_summary(_claims(ours, _CLAIMS))}]
    with psycopg.connect(superuser, autocommit=True) as conn:
        for start in range(0, finished, 100_000):
            count = min(100_000, finished - start)
            conn.execute(sql.SQL(_FINISHED).format(tasks_table), (tenant, count))
        ours.enqueue(ready)
        conn.execute(sql.SQL("VACUUM ANALYZE {}").format(tasks_table))
    size = f"{finished:,} finished, {ready:,} ready"
    rows.append({"table": size, **_summary(_claims(ours, _CLAIMS, enqueue=False))})
    with psycopg.connect(superuser) as conn:
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        conn.execute("SELECT txid_current()")
        held = _summary(_claims(ours, _CLAIMS, enqueue=False))
        rows.append({"table": f"{size}, old snapshot", **held})
    for row in rows:
        row["times"] = round(row["p99_ms"] / rows[0]["p99_ms"], 2)
    return rows


def graph_speed(on: Stage, tenant: UUID, *, rounds: int) -> list[dict[str, Any]]:
    """Compare submitting a chain with the same unnest into bare tables, in turn."""
    home = on.router.where(tenant=tenant).schema
    superuser = on.fleet.superuser_conninfo(on.fleet.shards[0].primary, "tenantry")
    taken: dict[str, list[float]] = {"submit": [], "bare": []}
    with psycopg.connect(superuser) as conn:
        conn.execute(
            sql.SQL(_BARE).format(sql.Identifier(home, "tasks"), sql.Identifier(home, "task_edges"))
        )
        conn.commit()
        for _ in range(rounds):
            graph = [tasks.NewTask("noop") for _ in range(_GRAPH)]
            edges = [tasks.Edge(after.id, before.id) for before, after in pairwise(graph)]
            began = time.perf_counter()
            on.router.run(tasks.submit(tenant, graph, edges, wake=False), tenant=tenant)
            taken["submit"].append(time.perf_counter() - began)
            began = time.perf_counter()
            _bare(conn, tenant)
            taken["bare"].append(time.perf_counter() - began)
    shares = [b / a for a, b in zip(taken["submit"], taken["bare"], strict=True)]
    return [
        {
            "way": name,
            "tasks_per_s": round(_GRAPH / median(found)),
            "of_bare": round(median(shares), 2) if name == "submit" else 1.0,
        }
        for name, found in taken.items()
    ]


def _bare(conn: psycopg.Connection[Any], tenant: UUID) -> None:
    ids = [uuid4() for _ in range(_GRAPH)]
    states = ["ready"] + ["waiting"] * (_GRAPH - 1)
    unmet = [0] + [1] * (_GRAPH - 1)
    kinds, payloads = ["noop"] * _GRAPH, ["{}"] * _GRAPH
    conn.execute(_BARE_TASKS, (tenant, ids, kinds, payloads, states, unmet))
    conn.execute(_BARE_EDGES, (tenant, ids[1:], ids[:-1]))
    conn.commit()


def _claims(ours: Tenantry, count: int, *, enqueue: bool = True) -> list[float]:
    """Claim and finish one task after the other; return how long each claim took."""
    hand, taken = ours.hand(), []
    for _ in range(count):
        if enqueue:
            ours.enqueue(1)
        began = time.perf_counter()
        found = hand.take(1)
        taken.append(time.perf_counter() - began)
        hand.finish(found)
    return taken


def _summary(taken: list[float]) -> dict[str, Any]:
    p99 = percentile(taken, 99)
    return {"p50_ms": round(median(taken) * 1000, 3), "p99_ms": round(p99 * 1000, 3)}
