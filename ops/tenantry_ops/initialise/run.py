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
from psycopg.types.json import Jsonb

from tenantry.catalog_writes import create_fleet, equal_ranges
from tenantry.conninfo import parse, primary_conninfo
from tenantry.drive import drive
from tenantry_ops.initialise.shard import ShardJob, lay_out
from tenantry_ops.locking import connect, operation
from tenantry_ops.migrate import Target, Upgrades
from tenantry_ops.models import layout_of
from tenantry_schema.errors import AlreadyExists, MigrationFailed, ShardUnavailable
from tenantry_schema.naming import History

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tenantry.map import Shard
    from tenantry_ops.initialise.plan import InitPlan
    from tenantry_schema.layout import Layout

_EXISTS = "SELECT to_regclass('tenantry.fleet') IS NOT NULL"
_FLEET = """
SELECT id, EXISTS (
    SELECT FROM tenantry.operations AS begun
    WHERE kind = 'init' AND state = 'running' AND detail ->> 'fleet_id' = fleet.id::text
) FROM tenantry.fleet AS fleet
"""
_BEGUN = """
SELECT detail ->> 'fleet_id', detail - 'fleet_id' FROM tenantry.operations
WHERE kind = 'init' AND detail ? 'fleet_id'
ORDER BY started_at DESC LIMIT 1
"""
_NOTE = """
UPDATE tenantry.operations SET detail = %s, updated_at = now()
WHERE kind = 'init' AND state = 'running'
"""


def initialise(
    plan: InitPlan,
    *,
    progress: Callable[[str], None] = lambda _: None,
    jobs: int = 4,
    if_missing: bool = False,
) -> UUID:
    """Make a fleet; return its id.

    :param progress: told of every step and bucket that is done
    :param if_missing: take a fleet that the catalog holds, whatever it is like, for the wanted one
    :raises AlreadyExists: when the catalog holds a fleet, or a shard belongs to another one
    :raises OperationInProgress: when another process does the same
    :raises InvalidSchema: when the models cannot be laid out
    """
    layout = layout_of(plan.models)
    with Upgrades() as upgrades, operation(plan.catalog, "init", "fleet") as begun:
        complete = _look(plan, if_missing=if_missing)
        if complete is not None:
            return complete
        upgrades.upgrade(Target("catalog", History.CATALOG, plan.catalog))
        begun()
        progress("catalog")
        with connect(plan.catalog) as conn:
            fleet_id = _begin(conn, plan)
            make = partial(_make_shard, plan=plan, upgrades=upgrades, progress=progress)
            with ThreadPoolExecutor(min(jobs, len(plan.shards))) as pool:
                list(pool.map(make, _jobs(plan, fleet_id, layout)))
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


def _look(plan: InitPlan, *, if_missing: bool) -> UUID | None:
    """Look before anything is changed whether there is a fleet, and whether all shards answer.

    Return the fleet that an init had completed when it was killed, before it could say so, or the
    one that need not be made.
    """
    with connect(plan.catalog) as conn:
        if conn.execute(_EXISTS).fetchone() == (True,):
            found = conn.execute(_FLEET).fetchone()
            if found is not None and found[1]:
                return _begin(conn, plan)
            if found is not None and if_missing:
                return UUID(str(found[0]))
            if found is not None:
                raise AlreadyExists(
                    f"the catalog holds fleet {found[0]} already: nothing was changed"
                )
    given = parse(plan.catalog)
    for shard in plan.shards:
        _reach(shard, primary_conninfo(given, shard.nodes, "tenantry-init"))
    return None


def _reach(shard: Shard, conninfo: str) -> None:
    try:
        psycopg.connect(conninfo).close()
    except psycopg.OperationalError as error:
        raise ShardUnavailable(
            f"no primary of shard {shard.name!r} answers ({str(error).strip()}): nothing was "
            "changed; start it, or correct --shard"
        ) from error


def _begin(conn: psycopg.Connection[tuple[object, ...]], plan: InitPlan) -> UUID:
    """Note what is to be made; go on with the fleet that an init before this one began."""
    wanted = {
        "buckets": plan.buckets,
        "models": plan.models,
        "shards": [shard.name for shard in plan.shards],
    }
    found = conn.execute(_BEGUN).fetchone()
    if found is not None and found[1] != wanted:
        raise AlreadyExists(
            f"an init with other options was begun here: {found[1]}; finish it with the same "
            f"options, or give init empty databases (now: {wanted})"
        )
    fleet_id = uuid4() if found is None else UUID(str(found[0]))
    conn.execute(_NOTE, (Jsonb({"fleet_id": str(fleet_id), **wanted}),))
    return fleet_id


def _jobs(plan: InitPlan, fleet_id: UUID, layout: Layout) -> Iterator[ShardJob]:
    ranges = equal_ranges(plan.buckets)
    now = datetime.now(UTC)
    for shard in plan.shards:
        mine = [bucket for bucket, home in enumerate(plan.placement) if home == shard.id]
        yield ShardJob(shard, fleet_id, layout, mine, ranges, now)


def _make_shard(
    job: ShardJob, *, plan: InitPlan, upgrades: Upgrades, progress: Callable[[str], None]
) -> None:
    name = job.shard.name
    conninfo = primary_conninfo(parse(plan.catalog), job.shard.nodes, "tenantry-init")
    upgrades.upgrade(Target(name, History.SHARD, conninfo, plan.models))
    progress(f"shard {name}")
    try:
        with psycopg.connect(conninfo, autocommit=True) as conn:
            lay_out(conn, job, partial(_tell, progress))
    except psycopg.OperationalError as error:
        raise ShardUnavailable(
            f"shard {name!r} went away during init ({str(error).strip()}): run `tenantry init` "
            "again, it goes on where it stopped"
        ) from error
    except psycopg.Error as error:
        raise MigrationFailed(
            f"shard {name!r} cannot be laid out ({str(error).splitlines()[0]}): mend the reason "
            "and run `tenantry init` again, it goes on where it stopped"
        ) from error


def _tell(progress: Callable[[str], None], bucket: int) -> None:
    progress(f"bucket {bucket}")
