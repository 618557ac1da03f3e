"""What routing costs where the servers are elsewhere: every message takes its time on the way.

``python -m tenantry_loadtest.bench.distant_read``

Plain and routed reads go through the same forwarders.
"""

from __future__ import annotations

import argparse
from typing import Any

from psycopg.conninfo import make_conninfo
from psycopg_pool import ConnectionPool

from tenantry import Router
from tenantry_loadtest.bench.distance import elsewhere
from tenantry_loadtest.bench.paired import Way, compare
from tenantry_loadtest.bench.printing import print_table
from tenantry_loadtest.bench.routed_read import last_way, plain_way, routed_way
from tenantry_loadtest.bench.stage import stage
from tenantry_loadtest.bench.stale_read import LENIENT


def measure(*, delay: float, threads: int, rounds: int, calls: int) -> list[dict[str, Any]]:
    """Compare reads on the primary and on a replica.

    :param delay: seconds of each message on its way, in either direction
    """
    # More than are needed, so that no thread waits for a connection.
    pool_size = 2 * threads
    with stage(buckets=16, replicas=1) as on, elsewhere(on, delay) as ports:
        catalog = on.fleet.catalog_conninfo()
        found: list[dict[str, Any]] = []
        with Router(catalog, pool_size=pool_size, prepared_max=4000) as router:
            for port, read in zip(ports, (None, LENIENT), strict=True):
                name = "primary" if read is None else "replica"
                plain = make_conninfo(on.app, host="127.0.0.1", port=port)
                with ConnectionPool(plain, min_size=pool_size, max_size=pool_size) as pool:
                    ways = [
                        plain_way(pool, on.rows, f"plain psycopg_pool on the {name}"),
                        routed_way(router, on.rows, f"routed, {name}", read),
                        last_way(router, on.rows, f"routed, {name}, run with last=True", read),
                        _trip_way(pool),
                    ]
                    found += compare(ways, threads=threads, rounds=rounds, calls=calls)
    return found


def _trip_way(pool: ConnectionPool[Any]) -> Way:
    """Return one statement without a transaction: one round trip."""

    def once(_number: int) -> None:
        with pool.connection() as conn:
            conn.set_autocommit(True)
            conn.execute("SELECT 1").fetchone()
            conn.set_autocommit(False)

    return Way("one round trip", once)


def main() -> None:
    """Print the table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--delay-ms", type=float, default=0.2, help="of a message, each way")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows = measure(
        delay=given.delay_ms / 1000, threads=given.threads, rounds=given.rounds, calls=given.calls
    )
    print_table("reads at a distance", rows, as_json=given.json)


if __name__ == "__main__":
    main()
