"""How fast a partition is archived, against a bare COPY of it, and in how much memory."""

from __future__ import annotations

import multiprocessing
import resource
import tempfile
import time
from typing import Any

import psycopg

from tenantry_partitions.archive import Archiver, Store
from tenantry_partitions.budget import Budget
from tenantry_partitions.policy import Policy
from tenantry_partitions.rollover import roll_over
from tenantry_partitions.session import maintenance

_TABLE = """
DROP TABLE IF EXISTS public.logs CASCADE;
CREATE TABLE public.logs (
    tenant_id uuid NOT NULL, at timestamptz NOT NULL, id uuid NOT NULL, level text NOT NULL,
    message text NOT NULL, fields jsonb NOT NULL
) PARTITION BY RANGE (at)
"""
_PARTITION = """
CREATE TABLE public.logs_p20260105 PARTITION OF public.logs
    FOR VALUES FROM ('2026-01-05 00:00+00') TO ('2026-01-12 00:00+00');
INSERT INTO public.logs
SELECT gen_random_uuid(), '2026-01-05 00:00+00'::timestamptz + it * interval '10 ms',
    gen_random_uuid(), 'info', 'step ' || it || ' took ' || md5(it::text) || repeat(' and more', 8),
    jsonb_build_object('step', it, 'node', md5((it % 100)::text))
FROM generate_series(1, {rows}) AS it;
CHECKPOINT
"""


def measure_archive(conninfo: str, rows: int) -> list[dict[str, Any]]:
    """Return seconds of a bare COPY and of a whole archive, and the archiver's memory."""
    with psycopg.connect(conninfo, autocommit=True) as conn:
        conn.execute(_TABLE)
        conn.execute(_PARTITION.format(rows=rows).encode())
        found = conn.execute("SELECT pg_table_size('public.logs_p20260105')").fetchone()
        assert found is not None
        megabytes = found[0] / 1e6
        bare = min(_bare(conn) for _ in range(2))
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    child = context.Process(target=_archive, args=(conninfo, send))
    child.start()
    told = receive.recv()
    child.join()
    return [
        {
            "rows": rows,
            "table_mb": round(megabytes),
            "bare_copy_s": round(bare, 2),
            "export_s": round(told["export"], 2),
            "export_ratio": round(bare / told["export"], 2),
            "all_of_archive_and_drop_s": round(told["whole"], 2),
            "peak_mb": round(told["peak"]),
        }
    ]


def _bare(conn: psycopg.Connection[Any]) -> float:
    began = time.perf_counter()
    with conn.cursor().copy("COPY public.logs_p20260105 TO STDOUT") as copy:
        for _ in copy:
            pass
    return time.perf_counter() - began


def _archive(conninfo: str, send: Any) -> None:
    exported = [0.0]

    class Timed(Archiver):
        def _upload(self, *arguments: Any) -> Any:
            began = time.perf_counter()
            upload = super()._upload(*arguments)
            exported[0] = time.perf_counter() - began
            return upload

    policy = Policy.parse(
        {"control": "at", "interval": "1 week", "retention": "90 days", "at_end": "archive"}
    )
    budget = Budget()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as folder, maintenance(conninfo, budget) as conn:
        began = time.perf_counter()
        archiver = Timed(Store.open(f"file://{folder}/archive"))
        (report,) = roll_over(conn, {("public", "logs"): policy}, budget, archiver=archiver)
        whole = time.perf_counter() - began
    assert report.error is None, report.error
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    send.send({"export": exported[0], "whole": whole, "peak": peak / 1024, "before": before / 1024})
