"""What the sampler takes of a processor: 16 shards of one primary and three replicas, idle.

``python -m tenantry_loadtest.bench.sampler``

The 64 nodes are 64 connections to the two servers of one small fleet: what is measured is our own
side of them.
"""

from __future__ import annotations

import argparse
import resource
import threading
import time
from typing import TYPE_CHECKING, Any

from tenantry import Router
from tenantry.map import Node, Shard
from tenantry.replicas.news import wait_for_news
from tenantry_loadtest.bench.printing import print_table
from tenantry_loadtest.bench.stage import passing_fleet
from tenantry_ops.initialise import embedded_plan, initialise
from tenantry_schema.naming import SHARD_DATABASE

if TYPE_CHECKING:
    from tenantry_ops.fleet import Fleet
    from tenantry_ops.fleet.process import Server


class _Copy(Shard):
    """A shard that is watched as if it were one more: its servers are those of shard 1."""

    @property
    def home(self) -> str:
        """What the servers say of themselves."""
        return f"{self.fleet}/1"


def measure(*, shards: int, replicas: int, seconds: float) -> list[dict[str, Any]]:
    """Return the share of a core that watching so many nodes takes, in three runs."""
    with passing_fleet(shards=1) as fleet:
        initialise(embedded_plan(fleet, buckets=1))
        with Router(fleet.catalog_conninfo(), poll_interval=600) as router:
            _watch_all(router, fleet, shards, replicas)
            return [_run(shards * (replicas + 1), seconds) for _ in range(3)]


def _watch_all(router: Router, fleet: Fleet, shards: int, replicas: int) -> None:
    (shard,) = fleet.shards
    for number in range(shards):
        nodes = [_node(f"{number}-a", shard.primary)]
        nodes += [_node(f"{number}-{it}", shard.replicas[0]) for it in range(replicas)]
        described = _Copy(number, f"s{number}", tuple(nodes), fleet=router.map.fleet_id)
        watch = router._lookout.watch(described)  # noqa: SLF001
        while not watch.state.settled:
            wait_for_news(watch, 1.0)


def _node(name: str, server: Server) -> Node:
    return Node(name, server.host, server.port, SHARD_DATABASE)


def _run(nodes: int, seconds: float) -> dict[str, Any]:
    waited = threading.Event()
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    waited.wait(seconds)
    after, took = resource.getrusage(resource.RUSAGE_SELF), time.monotonic() - began
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"nodes": nodes, "samples_per_s": nodes * 4, "percent_of_a_core": used / took * 100}


def main() -> None:
    """Print the table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=16)
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows = measure(shards=given.shards, replicas=given.replicas, seconds=given.seconds)
    print_table("sampler", rows, as_json=given.json)


if __name__ == "__main__":
    main()
