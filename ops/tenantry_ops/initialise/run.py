"""Do an init: every step may be repeated, and the fleet exists with the last one.

The catalog's rows are written in one transaction at the end. Whatever a killed init left is found
again by the next one, which goes on with the same fleet's id.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import psycopg

from tenantry.catalog_writes import create_fleet, equal_ranges
from tenantry.conninfo import parse, primary_conninfo
from tenantry.drive import drive
from tenantry_ops.initialise.shard import ShardJob, lay_out
from tenantry_ops.locking import connect, operation
from tenantry_ops.migrate.process import Target, upgrade_database
from tenantry_ops.models import layout_of
from tenantry_schema.errors import AlreadyExists, ShardUnavailable
from tenantry_schema.migrations import History

if TYPE_CHECKING:
    from collections.abc import Callable

    from tenantry.map import Shard
    from tenantry_ops.initialise.plan import InitPlan
    from tenantry_schema.layout import Layout

_FLEET = "SELECT id FROM tenantry.fleet"
_RESUMED = """
UPDATE tenantry.operations
SET detail = jsonb_build_object('fleet_id', coalesce(detail ->> 'fleet_id', %s))
WHERE kind = 'init' AND state = 'running'
RETURNING detail ->> 'fleet_id'
"""


def initialise(
    plan: InitPlan, *, progress: Callable[[str], None] = lambda _: None, jobs: int = 4
) -> UUID:
    """Make a fleet; return its id.

    :param progress: told of every step and bucket that is done
    :raises AlreadyExists: when the catalog holds a fleet, or a shard belongs to another one
    :raises OperationInProgress: when another process does the same
    :raises InvalidSchema: when the models cannot be laid out
    """
    layout = layout_of(plan.models)
    with operation(plan.catalog, "init", "fleet") as begun:
        upgrade_database(Target("catalog", History.CATALOG, plan.catalog))
        begun()
        progress("catalog")
        with connect(plan.catalog) as conn:
            fleet_id = _fleet_id(conn)
            _make_shards(plan, fleet_id, layout, progress, jobs)
            with conn.transaction():
                drive(
                    conn,
                    create_fleet(
                        fleet_id,
                        key_type=layout.key_type,
                        models=plan.models,
                        shards=plan.shards,
                        placement=plan.placement,
                    ),
                )
    return fleet_id


def _fleet_id(conn: psycopg.Connection[tuple[object, ...]]) -> UUID:
    found = conn.execute(_FLEET).fetchone()
    if found is not None:
        raise AlreadyExists(f"the catalog holds fleet {found[0]} already: nothing was changed")
    row = conn.execute(_RESUMED, (str(uuid4()),)).fetchone()
    return UUID(str(row[0])) if row is not None else uuid4()


def _make_shards(
    plan: InitPlan,
    fleet_id: UUID,
    layout: Layout,
    progress: Callable[[str], None],
    jobs: int,
) -> None:
    given = parse(plan.catalog)
    ranges = equal_ranges(plan.buckets)
    now = datetime.now(UTC)

    def make(shard: Shard) -> None:
        conninfo = primary_conninfo(given, shard.nodes, "tenantry-init")
        upgrade_database(Target(shard.name, History.SHARD, conninfo, plan.models))
        progress(f"shard {shard.name}")
        mine = [bucket for bucket, home in enumerate(plan.placement) if home == shard.id]
        job = ShardJob(shard, fleet_id, layout, mine, ranges, now)
        try:
            with psycopg.connect(conninfo, autocommit=True) as conn:
                lay_out(conn, job, partial(_tell, progress))
        except psycopg.OperationalError as error:
            raise ShardUnavailable(
                f"shard {shard.name!r} went away during init ({str(error).strip()}): run "
                "`tenantry init` again, it goes on where it stopped"
            ) from error

    with ThreadPoolExecutor(min(jobs, len(plan.shards))) as pool:
        for _ in pool.map(make, plan.shards):
            pass


def _tell(progress: Callable[[str], None], bucket: int) -> None:
    progress(f"bucket {bucket}")
