"""What routing costs through a PgBouncer: a routed point read against psycopg through the same one.

``python -m tenantry_loadtest.bench.pooled_read``
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from psycopg.conninfo import make_conninfo
from psycopg_pool import ConnectionPool

from tenantry import Router
from tenantry_loadtest.bench.paired import compare
from tenantry_loadtest.bench.printing import print_table
from tenantry_loadtest.bench.routed_read import last_way, plain_way, routed_way
from tenantry_loadtest.bench.stage import Stage, stage
from tenantry_ops.bouncer.embedded import Embedded

if TYPE_CHECKING:
    from collections.abc import Iterator

_SHARD = "shard-1"


def measure(*, rounds: int, calls: int) -> Iterator[dict[str, Any]]:
    """Compare with 1 and with 8 threads."""
    for threads in (1, 8):
        with stage(buckets=16, pool=1) as on:
            bouncer = Embedded.of(on.fleet)
            child = bouncer.up()
            each = calls if threads == 1 else max(50, calls // 4)
            yield from _measure(on, bouncer, threads, rounds, each)
            bouncer.discard()
            if child is not None:
                child.wait()


def _measure(
    on: Stage, bouncer: Embedded, threads: int, rounds: int, calls: int
) -> list[dict[str, Any]]:
    version = bouncer.status()["role"]
    host, port = on.fleet.state.sockets, bouncer.pooler.port
    entry = make_conninfo(on.app, host=host, port=port, dbname=_SHARD)
    # Which PgBouncer keeps prepared statements depends on its version: here nobody prepares.
    unprepared = {"prepare_threshold": None}
    with (
        ConnectionPool(entry, kwargs=unprepared, min_size=threads, max_size=threads) as pool,
        Router(
            on.fleet.catalog_conninfo(), pool_size=threads, pooler=f"host={host} port={port}"
        ) as router,
    ):
        ways = [plain_way(pool, on.rows), routed_way(router, on.rows), last_way(router, on.rows)]
        found = compare(ways, threads=threads, rounds=rounds, calls=calls)
    return [{"through": version, **row} for row in found]


def main() -> None:
    """Print the table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows = list(measure(rounds=given.rounds, calls=given.calls))
    print_table("through PgBouncer", rows, as_json=given.json)


if __name__ == "__main__":
    main()
