"""What benchmarks of reads run on: a fleet, tenants in its buckets, a plain table beside."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import psycopg
from psycopg import sql

from tenantry import Router
from tenantry_ops.fleet import Fleet
from tenantry_ops.initialise import embedded_plan, initialise
from tenantry_schema.naming import APP, OPERATOR

if TYPE_CHECKING:
    from collections.abc import Iterator

_PLAIN = """
CREATE SCHEMA plain;
CREATE TABLE plain.agents (LIKE fleet.agents INCLUDING DEFAULTS, PRIMARY KEY (tenant_id, id));
INSERT INTO plain.agents SELECT * FROM fleet.agents;
CREATE INDEX ON plain.agents (id);
GRANT USAGE ON SCHEMA plain TO tenantry_app;
GRANT SELECT ON plain.agents TO tenantry_app
"""
_AGENTS = """
INSERT INTO {}.agents (tenant_id, id, name)
SELECT %s, gen_random_uuid(), 'agent ' || it FROM generate_series(1, %s) AS it
RETURNING id
"""


@dataclass(frozen=True, slots=True)
class Stage:
    """One shard with rows.

    :ivar rows: (tenant, agent id) of every row, dealt over the buckets
    """

    fleet: Fleet
    router: Router
    app: str
    rows: list[tuple[UUID, UUID]]


@contextmanager
def passing_fleet(**options: Any) -> Iterator[Fleet]:
    """Start a fleet in a folder of its own, and take both away.

    :param options: of :meth:`~tenantry_ops.fleet.Fleet.up`
    """
    with tempfile.TemporaryDirectory(prefix="tenantry-bench-") as folder:
        Path(folder).chmod(0o755)
        with Fleet.up(Path(folder) / "fleet", **options) as fleet:
            yield fleet
            fleet.discard()


@contextmanager
def stage(
    *, buckets: int, tenants: int = 64, agents: int = 50, pool: int = 8, replicas: int = 0
) -> Iterator[Stage]:
    """Make the stage on one shard, and take it away."""
    with passing_fleet(shards=1, replicas=replicas, profile="durable") as fleet:
        initialise(embedded_plan(fleet, buckets=buckets))
        with Router(fleet.catalog_conninfo(), pool_size=pool, prepared_max=4000) as router:
            rows = _fill(fleet, router, tenants, agents)
            app = fleet.conninfo(fleet.shards[0].primary, user=APP)
            yield Stage(fleet, router, app, rows)


def _fill(fleet: Fleet, router: Router, tenants: int, agents: int) -> list[tuple[UUID, UUID]]:
    found: list[list[tuple[UUID, UUID]]] = []
    with psycopg.connect(fleet.conninfo(fleet.shards[0].primary, user=OPERATOR)) as conn:
        for _ in range(tenants):
            key = uuid4()
            schema = sql.Identifier(router.where(tenant=key).schema)
            conn.execute(
                sql.SQL("INSERT INTO {}.tenants (tenant_id, name) VALUES (%s, 'x')").format(schema),
                (key,),
            )
            made = conn.execute(sql.SQL(_AGENTS).format(schema), (key, agents))
            found.append([(key, row[0]) for row in made])
    superuser = fleet.superuser_conninfo(fleet.shards[0].primary, "tenantry")
    with psycopg.connect(superuser, autocommit=True) as conn:
        conn.execute(_PLAIN)
        conn.execute("VACUUM ANALYZE")
    # Neighbours in time go to different buckets, as they would in a service.
    return [row for together in zip(*found, strict=True) for row in together]
