"""Changes of the catalog, as works: each runs in one transaction of its own.

A change of the map names the version that it was planned on, and is refused when the map has
another one by then (compare-and-swap); routers hear of the new version by ``NOTIFY``.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from tenantry.errors import (
    AlreadyExists,
    AmbiguousPin,
    MapChanged,
    TenantryError,
    UnknownBucket,
    UnknownNode,
    UnknownShard,
    UnknownTenant,
)
from tenantry.keys import POSITIONS, TenantKey, hash32, key_text, position
from tenantry_schema.naming import MAP_CHANNEL
from tenantry_schema.query import Query

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from tenantry.map import Shard
    from tenantry_schema.query import Work

_BUMP = """
UPDATE tenantry.fleet SET map_version = map_version + 1
WHERE map_version = %s
RETURNING map_version
"""
_NOTIFY = "SELECT pg_notify(%s, %s)"
_FLEET = "INSERT INTO tenantry.fleet (id, key_type, models) VALUES (%s, %s, %s)"
_SHARDS = """
INSERT INTO tenantry.shards (id, name)
SELECT * FROM unnest(%s::int[], %s::text[])
"""
_NODES = """
INSERT INTO tenantry.nodes (shard_id, name, host, port, dbname, zone)
SELECT * FROM unnest(%s::int[], %s::text[], %s::text[], %s::int[], %s::text[], %s::text[])
"""
_RANGES = """
INSERT INTO tenantry.buckets (number, positions, shard_id)
SELECT number, int8range(lo, hi), shard
FROM unnest(%s::int[], %s::bigint[], %s::bigint[], %s::int[]) AS given (number, lo, hi, shard)
"""
_PLACE = """
UPDATE tenantry.buckets SET shard_id = %s
WHERE number = %s AND state <> 'retired'
RETURNING number
"""
_ZONE = "UPDATE tenantry.nodes SET zone = %s WHERE name = %s RETURNING name"
_TENANT = """
INSERT INTO tenantry.tenants (tenant_key, name, position) VALUES (%s, %s, %s)
ON CONFLICT DO NOTHING
RETURNING tenant_key
"""
_SAME_TENANT = "SELECT 1 FROM tenantry.tenants WHERE tenant_key = %s AND name = %s"
# Who pins a tenant looks for others with its bits, and who enters one looks for pins: without a
# lock in common, each would miss what the other has not committed.
_HOLD_BITS = "SELECT pg_advisory_xact_lock(hashtext('tenantry position'), %s::int)"
_PINNED = "SELECT tenant_key FROM tenantry.pins WHERE position = %s AND tenant_key <> %s"
_SHARES = "SELECT tenant_key FROM tenantry.tenants WHERE position = %s AND tenant_key <> %s LIMIT 1"
_DURABILITY = "UPDATE tenantry.shards SET durability = %s WHERE name = %s RETURNING name"
_NEXT_BUCKET = "SELECT max(number) + 1 FROM tenantry.buckets"
_GENERATION = """
UPDATE tenantry.buckets SET generation = generation + 1
WHERE state <> 'retired' AND positions @> %s::bigint
RETURNING number
"""
_PIN_BUCKET = "INSERT INTO tenantry.buckets (number, shard_id) VALUES (%s, %s)"
_PIN = "INSERT INTO tenantry.pins (tenant_key, position, bucket) VALUES (%s, %s, %s)"

_KNOWN_TENANT = "SELECT 1 FROM tenantry.tenants WHERE tenant_key = %s"
_AGENT = """
INSERT INTO tenantry.agents AS agent (agent_id, tenant_key) VALUES (%s, %s)
ON CONFLICT (agent_id) DO UPDATE SET tenant_key = excluded.tenant_key
WHERE agent.tenant_key = excluded.tenant_key
RETURNING agent_id
"""


def equal_ranges(count: int) -> list[tuple[int, int]]:
    """Cut the hash space into equal ranges: range i is where ``position * N >> 32 == i``."""
    starts = [-(-index * POSITIONS // count) for index in range(count + 1)]
    return list(pairwise(starts))


def create_fleet(
    fleet_id: UUID,
    *,
    key_type: str,
    models: str | None,
    shards: Sequence[Shard],
    placement: Sequence[int],
) -> Work[None]:
    """Write a new fleet: its shards, nodes, and one range for each entry of ``placement``.

    :param placement: the shard's id of bucket 0, 1, …
    """
    yield Query(_FLEET, (fleet_id, key_type, models))
    yield Query(_SHARDS, ([it.id for it in shards], [it.name for it in shards]))
    nodes = [(shard.id, node) for shard in shards for node in shard.nodes]
    yield Query(
        _NODES,
        (
            [shard for shard, _ in nodes],
            [node.name for _, node in nodes],
            [node.host for _, node in nodes],
            [node.port for _, node in nodes],
            [node.dbname for _, node in nodes],
            [node.zone for _, node in nodes],
        ),
    )
    ranges = equal_ranges(len(placement))
    yield Query(
        _RANGES,
        (
            list(range(len(placement))),
            [lo for lo, _ in ranges],
            [hi for _, hi in ranges],
            list(placement),
        ),
    )
    yield Query(_NOTIFY, (MAP_CHANNEL, "1"))


def place_bucket(number: int, shard: int, *, version: int) -> Work[int]:
    """Place a bucket on a shard; return the map's new version.

    :param version: the version that the change was planned on
    :raises MapChanged: when the map has another version by now
    :raises UnknownBucket: when no such bucket is served
    """
    unknown = UnknownBucket(f"no bucket {number} is served: nothing was changed")
    return _change(Query(_PLACE, (shard, number)), unknown, version)


def zone_node(node: str, zone: str | None, *, version: int) -> Work[int]:
    """Say in which zone a node is, or in none; return the map's new version.

    :param version: the version that the change was planned on
    :raises MapChanged: when the map has another version by now
    :raises UnknownNode: when the catalog has no such node
    """
    unknown = UnknownNode(f"the catalog has no node {node!r:.80}: nothing was changed")
    return _change(Query(_ZONE, (zone, node)), unknown, version)


def pin_tenant(key: TenantKey, shard: int, *, version: int) -> Work[tuple[int, int]]:
    """Give a tenant a bucket of its own; return its number, and that of the bucket it left.

    The bucket that it leaves gets a new generation, so that an old map cannot read "not there".
    Shards answer people (``tenantry.bucket_of``) as before until ``tenantry map publish``. To be
    run at READ COMMITTED, as :func:`register_tenant`.

    :raises MapChanged: when the map has another version by now
    :raises AmbiguousPin: when another tenant has the same 32 hash bits
    """
    yield from bump(version)
    at, text = position(key), key_text(key)
    yield Query(_HOLD_BITS, (hash32(key),))
    for statement in (_PINNED, _SHARES):
        others = yield Query(statement, (at, text))
        if others:
            raise AmbiguousPin(
                f"tenant {text} shares its 32 hash bits ({at}) with tenant {others[0][0]}: "
                "agent ids could not tell them apart; leave it in its range"
            )
    ((number,),) = yield Query(_NEXT_BUCKET)
    ((left,),) = yield Query(_GENERATION, (at,))
    yield Query(_PIN_BUCKET, (number, shard))
    yield Query(_PIN, (text, at, number))
    return number, left


def declare_durability(shard: str, level: str, *, version: int) -> Work[int]:
    """Write down what a shard's commits survive; return the map's new version.

    :param version: the version that the change was planned on
    :raises MapChanged: when the map has another version by now
    :raises UnknownShard: when the catalog has no such shard
    """
    unknown = UnknownShard(f"the catalog has no shard {shard!r:.80}: nothing was changed")
    return _change(Query(_DURABILITY, (level, shard)), unknown, version)


def register_tenant(key: TenantKey, name: str) -> Work[None]:
    """Enter a tenant into the directory; doing it again with the same name does nothing.

    To be run at READ COMMITTED: it waits for who pins a tenant of the same 32 hash bits, and then
    has to see the pin.

    :raises AlreadyExists: when the key or the name belongs to another tenant
    :raises AmbiguousPin: when a pinned tenant has the same 32 hash bits
    """
    at, text = position(key), key_text(key)
    yield Query(_HOLD_BITS, (hash32(key),))
    pinned = yield Query(_PINNED, (at, text))
    if pinned:
        raise AmbiguousPin(
            f"tenant {text} shares its 32 hash bits ({at}) with pinned tenant {pinned[0][0]}: "
            "give it another key"
        )
    if (yield Query(_TENANT, (text, name, at))):
        return
    if not (yield Query(_SAME_TENANT, (text, name))):
        raise AlreadyExists(f"a tenant with the name {name!r} or the key {text} exists already")


def register_agent(agent: str, key: TenantKey) -> Work[None]:
    """Enter an agent whose id was not minted here into the directory; its tenant never changes.

    :param agent: the service's own id of the agent, 1 to 200 characters
    :raises UnknownTenant: when the tenant is not registered
    :raises AlreadyExists: when the agent belongs to another tenant
    """
    text = key_text(key)
    if not (yield Query(_KNOWN_TENANT, (text,))):
        raise UnknownTenant(f"no tenant {text} is registered: create it before its agents")
    if not (yield Query(_AGENT, (agent, text))):
        raise AlreadyExists(f"agent {agent!r:.60} belongs to another tenant, which never changes")


def _change(query: Query, unknown: TenantryError, version: int) -> Work[int]:
    """Change one row under the map's next version, or refuse what is not there."""
    changed = yield from bump(version)
    if not (yield query):
        raise unknown
    return changed


def bump(version: int) -> Work[int]:
    """Take the next version of the map, and tell routers when the transaction commits.

    :raises MapChanged: when the map has another version by now
    """
    rows = yield Query(_BUMP, (version,))
    if not rows:
        raise MapChanged(
            f"the map is no longer at version {version}: plan the change again on the newest map"
        )
    changed: int = rows[0][0]
    yield Query(_NOTIFY, (MAP_CHANNEL, str(changed)))
    return changed
