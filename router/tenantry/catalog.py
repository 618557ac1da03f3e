"""What a router asks of the catalog, as works (design, section 4)."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

from tenantry.errors import CatalogUnavailable, UnknownAgent
from tenantry.keys import KeyType, TenantKey, parse_key
from tenantry.map import Bucket, Map, Node, Pins, Shard
from tenantry_schema.query import Query

if TYPE_CHECKING:
    from uuid import UUID

    from tenantry_schema.query import Work

_FLEET = "SELECT id, key_type, map_version FROM tenantry.fleet"
_VERSION = "SELECT map_version FROM tenantry.fleet"
_SHARDS = """
SELECT shard.id, shard.name, shard.durability,
    node.name, node.host, node.port, node.dbname, node.zone
FROM tenantry.shards AS shard
LEFT JOIN tenantry.nodes AS node ON node.shard_id = shard.id
ORDER BY shard.id, node.id
"""
_BUCKETS = """
SELECT number, generation, shard_id, lower(positions), upper(positions)
FROM tenantry.buckets
WHERE state <> 'retired'
"""
_PINS = """
SELECT position, bucket
FROM tenantry.pins
WHERE position > %s
ORDER BY position
LIMIT %s
"""
#: Pins of one answer: a million of them as rows would take more memory than the map.
_SOME_PINS = 50_000
_HEARTBEAT = """
INSERT INTO tenantry.routers AS router
    (id, application, host, pid, map_version, started_at, seen_at)
VALUES (%(id)s, %(application)s, %(host)s, %(pid)s, %(version)s, now(), now())
ON CONFLICT (id) DO UPDATE
SET map_version = excluded.map_version, seen_at = excluded.seen_at
"""
_LEAVE = "DELETE FROM tenantry.routers WHERE id = %s"
_DIRECTORY = """
SELECT agent.tenant_key, fleet.key_type
FROM tenantry.agents AS agent, tenantry.fleet AS fleet
WHERE agent.agent_id = %s
"""


def load_map() -> Work[Map]:
    """Read the map; the door gives it one snapshot (REPEATABLE READ).

    :raises CatalogUnavailable: when the catalog holds no fleet yet
    :raises InvalidConfig: when what it holds is no map
    """
    fleets = yield Query(_FLEET)
    if not fleets:
        raise CatalogUnavailable("the catalog holds no fleet yet: run `tenantry init`")
    fleet_id, key_type, version = fleets[0]
    shards = _shards((yield Query(_SHARDS)), fleet_id)
    buckets = [Bucket(*row) for row in (yield Query(_BUCKETS))]
    pins = yield from _pins()
    return Map(
        version=version,
        fleet_id=fleet_id,
        key_type=KeyType(key_type),
        shards=shards,
        buckets=buckets,
        pins=pins,
    )


def _pins() -> Work[Pins]:
    positions, numbers = array("Q"), array("q")
    last = -1
    while rows := (yield Query(_PINS, (last, _SOME_PINS))):
        positions.extend(at for at, _ in rows)
        numbers.extend(number for _, number in rows)
        last = positions[-1]
    return Pins(positions, numbers)


def map_version() -> Work[int]:
    """Read the version of the map."""
    rows = yield Query(_VERSION)
    if not rows:
        raise CatalogUnavailable("the catalog holds no fleet any more")
    version: int = rows[0][0]
    return version


def heartbeat(router: UUID, *, application: str, host: str, pid: int, version: int) -> Work[None]:
    """Tell operators which map version a router holds; losing it in a crash is no loss."""
    yield Query("SET LOCAL synchronous_commit = off")
    yield Query(
        _HEARTBEAT,
        {"id": router, "application": application, "host": host, "pid": pid, "version": version},
    )


def leave(router: UUID) -> Work[None]:
    """Take a router that closes off the operators' list."""
    yield Query("SET LOCAL synchronous_commit = off")
    yield Query(_LEAVE, (router,))


def directory_lookup(agent: str) -> Work[TenantKey]:
    """Find the tenant of an agent whose id was not minted here.

    :raises UnknownAgent: when the directory has no such agent
    """
    rows = yield Query(_DIRECTORY, (agent,))
    if not rows:
        raise UnknownAgent(f"the directory has no agent {agent!r:.60}: register it first")
    text, key_type = rows[0]
    return parse_key(text, KeyType(key_type))


def _shards(rows: list[tuple[Any, ...]], fleet: UUID) -> dict[int, Shard]:
    nodes: dict[tuple[int, str, str], list[Node]] = {}
    for number, name, durability, *node in rows:
        found = nodes.setdefault((number, name, durability), [])
        if node[0] is not None:
            found.append(Node(*node))
    return {
        number: Shard(number, name, tuple(found), durability, fleet)
        for (number, name, durability), found in nodes.items()
    }
