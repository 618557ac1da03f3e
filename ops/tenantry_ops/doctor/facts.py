"""What the doctor asks of every node: facts without a verdict."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import class_row

from tenantry.conninfo import parse
from tenantry_ops.cluster import place_of, read_map
from tenantry_ops.failover.ask import ask_shard, settled
from tenantry_ops.failover.record import read_records
from tenantry_ops.locking import connect
from tenantry_ops.migrate.state import SchemaState, heads_of, revisions_of
from tenantry_schema.errors import InvalidConfig, InvalidSchema
from tenantry_schema.naming import APP, OPERATOR, OWNER, READ, WORKER
from tenantry_schema.sql import load

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from tenantry.map import Map
    from tenantry_ops.cluster import ShardPlace
    from tenantry_ops.failover.standing import ShardStanding

_ROLES = """
SELECT rolname, rolsuper, rolbypassrls, rolcreaterole OR rolcreatedb OR rolreplication, rolcanlogin,
    pg_has_role(oid, (SELECT oid FROM pg_roles WHERE rolname = %(owner)s), 'MEMBER')
FROM pg_roles WHERE rolname = ANY (%(roles)s)
"""
_WHO = "SELECT fleet_id, shard_id FROM tenantry.shard"
_RANGES = "SELECT bucket, lower(positions), upper(positions) FROM tenantry.ranges"
_PINS = "SELECT position, bucket FROM tenantry.pins"
_ROUTERS = """
SELECT application, host, pid, map_version, extract(epoch FROM now() - seen_at)::int AS silent
FROM tenantry.routers
WHERE seen_at > now() - interval '1 minute'
"""
# An operation holds this lock for as long as its process lives (locking.py).
_LEFT = """
SELECT kind, subject, step, started_at FROM tenantry.operations AS operation
WHERE state = 'running' AND NOT EXISTS (
    SELECT FROM pg_locks AS held
    WHERE held.locktype = 'advisory'
        AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND held.classid::bigint = hashtext('tenantry ' || operation.kind)::bigint & 4294967295
        AND held.objid::bigint = hashtext(operation.subject)::bigint & 4294967295
)
"""


@dataclass(slots=True)
class NodeFacts:
    """One node: why it does not answer, or who it says it is."""

    shard: str
    node: str
    error: str | None = None
    system_identifier: str | None = None
    in_recovery: bool = False
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class RouterFacts:
    """One router's last heartbeat.

    :ivar silent: seconds since then
    """

    application: str
    host: str
    pid: int
    map_version: int
    silent: int


@dataclass(frozen=True, slots=True)
class TableFacts:
    """One table of a bucket on a shard's primary."""

    schema: str
    table: str
    forced: bool
    policies: int


@dataclass(frozen=True, slots=True)
class RoleFacts:
    """What a role may do.

    :ivar special: whether it may create databases or roles, or replicate
    :ivar owner: whether it may act as the owner of everything
    """

    name: str
    superuser: bool
    bypassrls: bool
    special: bool
    login: bool
    owner: bool


@dataclass(slots=True)
class ShardFacts:
    """What a shard's primary serves.

    :ivar served: bucket schemas -> whether the application's role may use them
    :ivar who: the fleet and the shard that it says it is, or None
    :ivar ranges: bucket -> its range, as the shard's ``tenantry.bucket_of`` sees it
    :ivar pins: position -> the bucket of the tenant that is pinned there, in the same way
    """

    name: str
    served: dict[str, bool] = field(default_factory=dict)
    tables: list[TableFacts] = field(default_factory=list)
    roles: list[RoleFacts] = field(default_factory=list)
    who: tuple[UUID, int] | None = None
    ranges: dict[int, tuple[int, int]] = field(default_factory=dict)
    pins: dict[int, int] = field(default_factory=dict)
    parents_open: bool = False


@dataclass(slots=True)
class FleetFacts:
    """Everything that was asked.

    :ivar misplaced: shards whose primary cannot be looked for -> why
    :ivar models_error: why the fleet's models cannot be used here, or None
    """

    map: Map
    nodes: list[NodeFacts]
    shards: dict[int, ShardFacts]
    schema: SchemaState | None
    routers: list[RouterFacts]
    left: list[tuple[str, str, str, datetime]] = field(default_factory=list)
    standings: tuple[ShardStanding, ...] = ()
    misplaced: dict[str, str] = field(default_factory=dict)
    models_error: str | None = None


def gather_facts(catalog: str, held: tuple[Map, str | None] | None = None) -> FleetFacts:
    """Ask the catalog, every node and every primary.

    :param held: the map and the models' name, if they were read already
    :raises CatalogUnavailable: when the catalog does not answer or holds no fleet
    :raises InvalidConfig: when what it holds is no map
    """
    known, models = held or read_map(catalog)
    given = parse(catalog)
    standings = tuple(settled(partial(ask_shard, it, given)) for it in read_records(catalog))
    nodes = [
        NodeFacts(shard.name, it.node, it.error, it.system_identifier, it.in_recovery, it.read_only)
        for shard in standings
        for it in shard.nodes
    ]
    places, misplaced = _places(known, given)
    shards: dict[int, ShardFacts] = {}
    for place in places:
        try:
            with psycopg.connect(place.conninfo, autocommit=True) as conn:
                shards[place.id] = _shard(conn, place.name)
        except psycopg.OperationalError:
            continue
    complete = len(shards) == len(places) and not misplaced
    schema, models_error = _schema(catalog, models, places if complete else None)
    with connect(catalog) as conn:
        routers = conn.cursor(row_factory=class_row(RouterFacts)).execute(_ROUTERS).fetchall()
        left: list[Any] = conn.execute(_LEFT).fetchall()
    return FleetFacts(
        known, nodes, shards, schema, routers, left, standings, misplaced, models_error
    )


def _places(held: Map, given: dict[str, Any]) -> tuple[list[ShardPlace], dict[str, str]]:
    places, misplaced = [], {}
    for shard in held.shards.values():
        if shard.nodes:
            try:
                places.append(place_of(shard, given))
            except InvalidConfig as error:
                misplaced[shard.name] = str(error)
    return places, misplaced


def _schema(
    catalog: str, models: str | None, places: list[ShardPlace] | None
) -> tuple[SchemaState | None, str | None]:
    """Compare revisions, where the models can be used and every shard could be asked."""
    try:
        heads = heads_of(models)
    except (InvalidConfig, InvalidSchema) as error:
        return None, str(error)
    return None if places is None else SchemaState(revisions_of(catalog, places), heads), None


def _shard(conn: psycopg.Connection[Any], name: str) -> ShardFacts:
    facts = ShardFacts(name)
    facts.served = dict(conn.execute(load("served_buckets"), (APP,)).fetchall())
    facts.tables = [TableFacts(*row) for row in conn.execute(load("bucket_tables"))]
    wanted = {"owner": OWNER, "roles": [APP, READ, OPERATOR, OWNER, WORKER]}
    facts.roles = [RoleFacts(*row) for row in conn.execute(_ROLES, wanted)]
    facts.who = conn.execute(_WHO).fetchone()
    facts.ranges = {bucket: (lo, hi) for bucket, lo, hi in conn.execute(_RANGES)}
    facts.pins = dict(conn.execute(_PINS).fetchall())
    row = conn.execute("SELECT has_schema_privilege(%s, 'fleet', 'USAGE')", (APP,)).fetchone()
    facts.parents_open = row == (True,)
    return facts
