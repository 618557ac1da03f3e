"""The tenants that a run makes for itself, and takes away: it never touches another's rows."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg
from psycopg import sql

from tenantry import Query, Router, mint_agent_id
from tenantry_loadtest.calls import FIRST_AGENT, KEYED
from tenantry_loadtest.history import Run, Seat
from tenantry_ops.locking import connect
from tenantry_ops.tenants import create
from tenantry_schema.naming import FLEET

if TYPE_CHECKING:
    from tenantry import Work
    from tenantry_ops.cluster import FleetPlaces, ShardPlace
    from tenantry_ops.steps import Step

_PREFIX = "load-"

_AGENT = "INSERT INTO agents (tenant_id, id, name) VALUES (%s, %s, %s)"
_DELETE = "DELETE FROM {} WHERE tenant_id = ANY(%s::uuid[])"
# A record is a file that anybody may have edited: only tenants that a run made are its own.
_OWN = """
SELECT tenant_key FROM tenantry.tenants
JOIN unnest(%s::text[], %s::text[]) AS mine (tenant_key, name) USING (tenant_key, name)
WHERE starts_with(name, %s)
"""
_FORGET = "DELETE FROM tenantry.tenants WHERE tenant_key = ANY(%s)"


def plan_run(seed: int, tenants: int) -> Run:
    """Return a new run; nothing is made yet."""
    name = f"{_PREFIX}{secrets.token_hex(4)}"
    keys = [uuid4() for _ in range(tenants)]
    seats = [
        Seat(f"{name}-{number:04d}", key, mint_agent_id(key)) for number, key in enumerate(keys)
    ]
    return Run(name, seed, tuple(seats))


def make_seats(operator: str, service: str, run: Run, step: Step) -> None:
    """Create a run's tenants, and the first agent of each by way of the router.

    :param operator: the catalog's conninfo of who may create tenants
    :param service: that of the service whose load this is
    """
    with Router(service, application=run.name) as router:
        for number, seat in enumerate(run.seats, start=1):
            create(operator, seat.name, str(seat.key))
            router.run(lambda seat=seat: _agent(seat), tenant=seat.key)  # type: ignore[misc]
            step("create tenants", number, len(run.seats))


def remove_seats(operator: str, places: FleetPlaces, run: Run) -> None:
    """Delete every row of a run's tenants, and the tenants; may be repeated."""
    keys, names = [str(seat.key) for seat in run.seats], [seat.name for seat in run.seats]
    with connect(operator) as catalog:
        own = [row[0] for row in catalog.execute(_OWN, (keys, names, _PREFIX))]
        for shard in places.shards:
            _delete(shard, own)
        # The last to go: what a kill leaves behind is found by it.
        catalog.execute(_FORGET, (own,))


def _delete(shard: ShardPlace, keys: list[object]) -> None:
    with psycopg.connect(shard.conninfo) as conn:
        for table in (*KEYED, "tenants"):
            statement = sql.SQL(_DELETE).format(sql.Identifier(FLEET, table))
            conn.execute(statement, (keys,))


def _agent(seat: Seat) -> Work[None]:
    yield Query(_AGENT, (seat.key, seat.agent, FIRST_AGENT))
