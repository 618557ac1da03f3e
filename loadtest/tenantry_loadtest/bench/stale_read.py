"""What a read that was declared stale costs, and whose processor it takes.

``python -m tenantry_loadtest.bench.stale_read``
"""

from __future__ import annotations

import argparse
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psycopg_pool import ConnectionPool

from tenantry import Stale
from tenantry_loadtest.bench.paired import Way, compare
from tenantry_loadtest.bench.printing import print_table
from tenantry_loadtest.bench.routed_read import last_way, plain_way, routed_way
from tenantry_loadtest.bench.stage import Stage, stage
from tenantry_schema.naming import APP

if TYPE_CHECKING:
    from collections.abc import Callable

    from tenantry_ops.fleet.process import Server

# Some milliseconds of a processor, on rows that lie in memory.
BURN = "SELECT sum(sqrt(it)) FROM generate_series(1, 60000) AS it"
LENIENT = Stale(seconds=60)


def ways(on: Stage, pool: ConnectionPool[Any]) -> list[Way]:
    """Return the plain read on the replica, and the routed one that finds the replica."""
    return [
        plain_way(pool, on.rows, "plain psycopg_pool on the replica"),
        routed_way(on.router, on.rows, "routed, Stale", LENIENT),
        last_way(on.router, on.rows, "routed, Stale, run with last=True", LENIENT),
    ]


def cost(*, rounds: int, calls: int) -> list[dict[str, Any]]:
    """Compare a stale read with a plain one on the same replica, with 1 and with 8 threads."""
    found: list[dict[str, Any]] = []
    for threads in (1, 8):
        with stage(buckets=16, pool=threads, replicas=1) as on:
            replica = on.fleet.conninfo(on.fleet.shards[0].replicas[0], user=APP)
            with ConnectionPool(replica, min_size=threads, max_size=threads) as pool:
                each = calls if threads == 1 else max(50, calls // 4)
                found += compare(ways(on, pool), threads=threads, rounds=rounds, calls=each)
    return found


def shares(*, seconds: float, threads: int = 16) -> list[dict[str, Any]]:
    """Compare reads on the primary with declared-stale ones on two replicas, A B A B."""
    with stage(buckets=16, pool=threads, replicas=2) as on:
        measured: dict[str, list[dict[str, float]]] = {}
        for _ in range(3):
            for name, read in (("primary only", None), ("two replicas", LENIENT)):
                measured.setdefault(name, []).append(_burn(on, read, seconds, threads))
    return [
        {"way": name, **{key: round(sum(it[key] for it in runs) / 3, 2) for key in runs[0]}}
        for name, runs in measured.items()
    ]


def _burn(on: Stage, read: Stale | None, seconds: float, threads: int) -> dict[str, float]:
    until, done = time.monotonic() + seconds, [0] * threads
    before = _processors(on)

    def loop(which: int) -> None:
        number = which
        while time.monotonic() < until:
            key = on.rows[number % len(on.rows)][0]
            with on.router.connection(tenant=key, read=read) as conn:
                conn.execute(BURN).fetchone()
            done[which] += 1
            number += threads

    _together(loop, threads)
    after = _processors(on)
    primary, *replicas = (now - then for now, then in zip(after, before, strict=True))
    return {
        "reads_per_s": sum(done) / seconds,
        "cpu_primary_s": primary,
        "cpu_replicas_s": sum(replicas),
    }


def _together(loop: Callable[[int], None], threads: int) -> None:
    running = [threading.Thread(target=loop, args=(it,)) for it in range(threads)]
    for it in running:
        it.start()
    for it in running:
        it.join()


def _processors(on: Stage) -> list[float]:
    return [_processor(server) for server in on.fleet.shards[0].servers]


def _processor(server: Server) -> float:
    """Return the processor seconds that a server and its children have taken so far."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        mine = int(path.parent.name) == server.pid or int(fields[1]) == server.pid
        if mine:
            # utime and stime; of the postmaster those of children that ended, too.
            ended = slice(11, 15) if int(path.parent.name) == server.pid else slice(11, 13)
            ticks += sum(map(int, fields[ended]))
    return ticks / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Print the tables, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    print_table("cost", cost(rounds=given.rounds, calls=given.calls), as_json=given.json)
    print_table("shares", shares(seconds=given.seconds), as_json=given.json)


if __name__ == "__main__":
    main()
