"""How long a large map takes to load, what it occupies, and what a look-up in it costs.

``python -m tenantry_loadtest.bench.large_map``
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import time
from statistics import median
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg

from tenantry import Router
from tenantry_loadtest.bench.printing import print_table
from tenantry_loadtest.bench.stage import passing_fleet
from tenantry_ops.initialise import embedded_plan, initialise
from tenantry_schema.naming import CATALOG_DATABASE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tenantry.map import Map

_FILL = """
DELETE FROM tenantry.buckets;
INSERT INTO tenantry.buckets (number, positions, shard_id)
SELECT it, int8range(it * 4294967296 / {buckets}, (it + 1) * 4294967296 / {buckets}), 1
FROM generate_series(0, {buckets}::bigint - 1) AS it;
INSERT INTO tenantry.pins (tenant_key, position, bucket)
SELECT gen_random_uuid()::text, it * (4294967296 / {pins}), it % {buckets}
FROM generate_series(0, {pins}::bigint - 1) AS it;
ANALYZE tenantry.buckets, tenantry.pins
"""
# Run in a process of its own: what is held before the map is not the map's.
_HELD = """
import resource, sys
from tenantry import Router
def used():
    line = next(it for it in open("/proc/self/status") if it.startswith("VmRSS"))
    return int(line.split()[1]) / 1024
conninfo = sys.stdin.readline().strip()
before = used()
with Router(conninfo) as router:
    router.map
    after = used()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(round(after - before), round(peak - before))
"""


def measure(*, buckets: int, pins: int, keys: int) -> Iterator[dict[str, Any]]:
    """Fill a real catalog, and let routers load it."""
    with passing_fleet(shards=1, replicas=0) as fleet:
        initialise(embedded_plan(fleet, buckets=1))
        superuser = fleet.superuser_conninfo(fleet.shards[0].primary, CATALOG_DATABASE)
        with psycopg.connect(superuser, autocommit=True) as conn:
            conn.execute(_FILL.format(buckets=buckets, pins=pins).encode())
        began = time.perf_counter()
        with Router(fleet.catalog_conninfo(), poll_interval=600) as router:
            held = router.map
            yield {"what": "load, s", "value": round(time.perf_counter() - began, 2)}
            yield {"what": "buckets", "value": len(held)}
            yield {"what": "pins", "value": held.pin_count}
            yield from _look_ups(held, keys)
        kept, peak = _held(fleet.catalog_conninfo())
        yield {"what": "memory held, MB", "value": kept}
        yield {"what": "memory while loading, MB", "value": peak}


def _look_ups(held: Map, keys: int) -> Iterator[dict[str, Any]]:
    seeded = random.Random(7)
    runs: dict[str, list[float]] = {"cold": [], "warm": []}
    for _ in range(7):
        asked = [UUID(int=seeded.getrandbits(128)) for _ in range(keys)]
        for found in runs.values():
            began = time.perf_counter()
            for key in asked:
                held.of_tenant(key)
            found.append((time.perf_counter() - began) / keys * 1e6)
    for kind, found in runs.items():
        yield {"what": f"look-up, {kind}, µs", "value": round(median(found), 2)}


def _held(conninfo: str) -> tuple[int, int]:
    command = [sys.executable, "-c", _HELD]
    ended = subprocess.run(command, input=conninfo, capture_output=True, text=True, check=True)  # noqa: S603
    kept, peak = map(int, ended.stdout.split())
    return kept, peak


def main() -> None:
    """Print the table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--buckets", type=int, default=65_536)
    parser.add_argument("--pins", type=int, default=1_000_000)
    parser.add_argument("--keys", type=int, default=20_000)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows = list(measure(buckets=given.buckets, pins=given.pins, keys=given.keys))
    print_table("a large map", rows, as_json=given.json)


if __name__ == "__main__":
    main()
