"""``python -m tenantry_loadtest.bench.queue``: the tables of docs/benchmarks.md."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tenantry import Router
from tenantry_loadtest.bench.distance import elsewhere
from tenantry_loadtest.bench.printing import print_table
from tenantry_loadtest.bench.queue.clients import PgQueuer, ProcrastinateClient
from tenantry_loadtest.bench.queue.fairness import fairness
from tenantry_loadtest.bench.queue.oban import Oban
from tenantry_loadtest.bench.queue.ours import Exchanging, OwnSql, Tenantry
from tenantry_loadtest.bench.queue.peers import Pgmq, Procrastinate
from tenantry_loadtest.bench.queue.race import race
from tenantry_loadtest.bench.queue.sizes import graph_speed, latencies
from tenantry_loadtest.bench.queue.whole import whole
from tenantry_loadtest.bench.stage import stage
from tenantry_ops.tenants import create
from tenantry_schema.naming import OPERATOR

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from tenantry_loadtest.bench.queue.contestant import Contestant
    from tenantry_loadtest.bench.stage import Stage
    from tenantry_ops.fleet import Fleet

_MOST_WORKERS = 32
_TABLES = ("throughput", "workers", "distant", "latency", "fairness", "graph")
_PEERS: dict[str, tuple[Callable[[str], Contestant], ...]] = {
    "procrastinate": (Procrastinate, ProcrastinateClient),
    "pgmq": (Pgmq,),
    "pgqueuer": (PgQueuer,),
    "oban": (Oban,),
}


def tenant_of(fleet: Fleet) -> UUID:
    """Create a tenant of its own for one measurement."""
    key = uuid4()
    create(fleet.catalog_conninfo(OPERATOR), f"bench-{key.hex[:12]}", str(key))
    return key


def peers(on: Stage, names: list[str]) -> list[Contestant]:
    """Give each peer a database of its own on the same server."""
    kinds = [kind for name in names for kind in _PEERS[name]]
    return [kind(_database(on, f"peer_{number}")) for number, kind in enumerate(kinds)]


def _database(on: Stage, name: str) -> str:
    """Create a database for a peer, and return its superuser's conninfo."""
    server = on.fleet.shards[0].primary
    with psycopg.connect(on.fleet.superuser_conninfo(server), autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return on.fleet.superuser_conninfo(server, name)


def throughput(on: Stage, names: list[str], *, rounds: int, jobs: int) -> list[dict[str, Any]]:
    """Race everyone at 1, 8 and 32 workers, claiming one job or fifty."""
    rows: list[dict[str, Any]] = []
    others = peers(on, names)
    for workers in (1, 8, _MOST_WORKERS):
        for batch in (1, 50):
            ours = [
                Tenantry(on.router, tenant_of(on.fleet)),
                Exchanging(on.router, tenant_of(on.fleet)),
                OwnSql(on.router, tenant_of(on.fleet), on.app),
            ]
            count = jobs if batch == 50 else jobs // 4
            rows += race([*ours, *others], workers=workers, batch=batch, jobs=count, rounds=rounds)
    return rows


def distant(on: Stage, *, delay: float, jobs: int, rounds: int) -> list[dict[str, Any]]:
    """Let whole workers drain a queue on a server that is elsewhere.

    :param delay: seconds of each message on its way, in either direction
    """
    theirs, catalog = _database(on, "procrastinate_afar"), on.fleet.catalog_conninfo()
    with elsewhere(on, delay) as (port,), Router(catalog, pool_size=_MOST_WORKERS) as router:
        conninfo = make_conninfo(theirs, host="127.0.0.1", port=port)
        afar = replace(on, router=router)
        return whole(afar, tenant_of(on.fleet), conninfo, jobs=jobs, rounds=rounds)


def main() -> None:
    """Print the tables, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=4000)
    installed = [name for name in _PEERS if find_spec(name) is not None]
    parser.add_argument("--peers", default=",".join(installed), help="names, with commas")
    parser.add_argument("--finished", type=int, default=1_000_000)
    parser.add_argument("--ready", type=int, default=100_000)
    parser.add_argument("--delay-ms", type=float, default=0.2, help="of a message, each way")
    parser.add_argument("--only", choices=_TABLES)
    parser.add_argument("--backlog", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    names = [name for name in given.peers.split(",") if name]
    found: dict[str, list[dict[str, Any]]] = {}
    with stage(buckets=16, tenants=4, agents=1, pool=_MOST_WORKERS) as on:
        if given.only in (None, "throughput"):
            found["throughput"] = throughput(on, names, rounds=given.rounds, jobs=given.jobs)
        if given.only in (None, "workers") and "procrastinate" in names:
            found["workers"] = whole(
                on,
                tenant_of(on.fleet),
                _database(on, "procrastinate"),
                jobs=given.jobs // 4,
                rounds=given.rounds,
            )
        if given.only in (None, "distant") and "procrastinate" in names:
            laps = {"jobs": given.jobs // 4, "rounds": given.rounds}
            found["workers at a distance"] = distant(on, delay=given.delay_ms / 1000, **laps)
        if given.only in (None, "latency"):
            sizes = {"finished": given.finished, "ready": given.ready}
            found["latency"] = latencies(on, tenant_of(on.fleet), **sizes)
        if given.only in (None, "fairness"):
            pair = tenant_of(on.fleet), tenant_of(on.fleet)
            found["fairness"] = fairness(on, *pair, ready=given.backlog)
        if given.only in (None, "graph"):
            found["graph"] = graph_speed(on, tenant_of(on.fleet), rounds=given.rounds)
    if given.json:
        print(json.dumps(found))  # noqa: T201
        return
    for title, rows in found.items():
        print_table(title, rows, as_json=False)


if __name__ == "__main__":
    main()
