"""Say in which zone a node is, so that routers of the same zone read there first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tenantry.catalog_writes import zone_node
from tenantry.drive import drive
from tenantry_ops.cluster import read_map
from tenantry_ops.locking import connect
from tenantry_schema.errors import InvalidConfig, UnknownNode, UnknownShard

if TYPE_CHECKING:
    from tenantry.map import Map, Node

#: As long as a router's own may be.
_LONGEST = 63


@dataclass(frozen=True, slots=True)
class Zoned:
    """Where a node is now, and since which version of the map routers know."""

    shard: str
    node: str
    zone: str | None
    map_version: int


def set_zone(catalog: str, shard: str, node: str, zone: str | None) -> Zoned:
    """Set a node's zone; doing it again changes nothing.

    :param zone: 1 to 63 characters, or None for no zone
    :raises InvalidConfig: for a zone that no router could have
    :raises UnknownShard: when the fleet has no such shard
    :raises UnknownNode: when the shard has no such node
    :raises MapChanged: when something else changed the map meanwhile: do it again
    """
    if zone is not None and (not 1 <= len(zone) <= _LONGEST or "\0" in zone):
        raise InvalidConfig(f"a zone is 1 to {_LONGEST} characters without NUL, not {zone!r:.80}")
    held, _ = read_map(catalog)
    if _find(held, shard, node).zone == zone:
        return Zoned(shard, node, zone, held.version)
    with connect(catalog) as conn, conn.transaction():
        version = drive(conn, zone_node(node, zone, version=held.version))
    return Zoned(shard, node, zone, version)


def _find(held: Map, shard: str, node: str) -> Node:
    shards = {it.name: it for it in held.shards.values()}
    if shard not in shards:
        known = ", ".join(sorted(shards)) or "no shards"
        raise UnknownShard(f"the catalog has no shard {shard!r:.80}: it has {known}")
    nodes = {it.name: it for it in shards[shard].nodes}
    if node not in nodes:
        known = ", ".join(nodes) or "no nodes"
        raise UnknownNode(f"shard {shard} has no node {node!r:.80}: it has {known}")
    return nodes[node]
