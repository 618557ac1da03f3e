"""What the databases hold of a run, read without the router: it is among what is judged."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from tenantry_loadtest.calls import KEYED
from tenantry_loadtest.judge import Place
from tenantry_schema.errors import TenantryError
from tenantry_schema.naming import FLEET

if TYPE_CHECKING:
    from uuid import UUID

    from tenantry_loadtest.history import Run
    from tenantry_ops.cluster import FleetPlaces, ShardPlace

_QUIET_S = 30.0
_LOOK_S = 0.05

# Whoever is in a transaction holds a lock, also while its COMMIT waits for a standby; a connection
# that a pooler keeps open holds none.
_BUSY = """
SELECT count(DISTINCT pid) FROM pg_stat_activity JOIN pg_locks USING (pid)
WHERE application_name = %s
"""
# Through the parents, so in every bucket of the shard: also in one that should not have it.
_KEYED = """
SELECT {key}, tenant_id, tableoid::regclass::text FROM {table}
WHERE tenant_id = ANY(%s) AND starts_with({key}, %s)
"""


def read_final_state(places: FleetPlaces, run: Run) -> dict[str, list[Place]]:
    """Return operation key -> every place where a row carries it, on all shards.

    Waits until no transaction of the run is open any more: a COMMIT that waits for a standby is
    seen by nobody yet, and would be taken for one that never happened.

    :raises TenantryError: when the run's transactions do not end
    """
    found: dict[str, list[Place]] = defaultdict(list)
    for shard in places.shards:
        with psycopg.connect(shard.conninfo, autocommit=True) as conn:
            _await_quiet(conn, shard, run)
            for table, key in KEYED.items():
                for written, tenant, where in conn.execute(_query(table, key), _named(run)):
                    schema = where.partition(".")[0]
                    found[written].append(Place(shard.name, schema, tenant))
    return dict(found)


def homes(places: FleetPlaces, run: Run) -> dict[UUID, Place]:
    """Return where each tenant of a run lives, by the catalog."""
    placed = {seat.key: places.map.of_tenant(seat.key) for seat in run.seats}
    return {
        tenant: Place(places.map.shards[it.shard].name, it.schema, tenant)
        for tenant, it in placed.items()
    }


def _query(table: str, key: str) -> sql.Composed:
    return sql.SQL(_KEYED).format(table=sql.Identifier(FLEET, table), key=sql.Identifier(key))


def _named(run: Run) -> tuple[list[UUID], str]:
    return [seat.key for seat in run.seats], f"{run.name}-"


def _await_quiet(conn: psycopg.Connection[tuple[int, ...]], shard: ShardPlace, run: Run) -> None:
    until = time.monotonic() + _QUIET_S
    while (row := conn.execute(_BUSY, (run.name,)).fetchone()) and row[0]:
        if time.monotonic() > until:
            raise TenantryError(
                f"{row[0]} transactions of {run.name} on shard {shard.name!r} are still open after "
                f"{_QUIET_S:g} s: look for them in pg_stat_activity, end them, then judge the "
                "record with `tenantry load judge`"
            )
        time.sleep(_LOOK_S)
