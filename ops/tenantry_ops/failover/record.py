"""What the catalog says of a shard; a catalog without a primary is read on a replica of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.conninfo import make_conninfo

from tenantry.map import Node
from tenantry_ops.locking import connect
from tenantry_schema.errors import CatalogUnavailable, UnknownShard

if TYPE_CHECKING:
    from collections.abc import Mapping

_SHARDS = """
SELECT shard.name, shard.durability, node.name, node.host, node.port, node.dbname
FROM tenantry.shards AS shard
LEFT JOIN tenantry.nodes AS node ON node.shard_id = shard.id
ORDER BY shard.id, node.id
"""


@dataclass(frozen=True, slots=True)
class ShardRecord:
    """A shard as the catalog has it."""

    name: str
    durability: str
    nodes: tuple[Node, ...]

    def node(self, name: str) -> Node:
        """Return a node by its name, which was checked."""
        return next(it for it in self.nodes if it.name == name)


def open_catalog(catalog: str) -> psycopg.Connection[tuple[object, ...]]:
    """Connect to the catalog's primary, or to any server of it when it has none.

    :raises CatalogUnavailable: when no server of it answers
    """
    try:
        return connect(make_conninfo(catalog, target_session_attrs="read-write"))
    except CatalogUnavailable:
        return connect(make_conninfo(catalog, target_session_attrs="any"))


def read_records(catalog: str) -> tuple[ShardRecord, ...]:
    """Read all shards.

    :raises CatalogUnavailable: when the catalog does not answer or holds no fleet
    """
    with open_catalog(catalog) as conn:
        try:
            rows: list[Any] = conn.execute(_SHARDS).fetchall()
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName) as error:
            raise CatalogUnavailable("there is no fleet yet: run `tenantry init`") from error
    nodes: dict[tuple[str, str], list[Node]] = {}
    for name, durability, *node in rows:
        held = nodes.setdefault((name, durability), [])
        if node[0] is not None:
            held.append(Node(*node))
    return tuple(ShardRecord(*who, tuple(held)) for who, held in nodes.items())


def read_record(catalog: str, name: str) -> ShardRecord:
    """Read one shard.

    :raises UnknownShard: when the catalog has none of that name
    """
    records = read_records(catalog)
    for record in records:
        if record.name == name:
            return record
    known = ", ".join(it.name for it in records) or "no shards"
    raise UnknownShard(f"the catalog has no shard {name!r:.80}: it has {known}")


def catalog_on(given: Mapping[str, Any], node: Node) -> str | None:
    """Return how to reach the catalog on a node, or None when it is not said to be there."""
    hosts = str(given.get("host", "")).split(",")
    ports = str(given.get("port", "5432")).split(",")
    ports = ports * len(hosts) if len(ports) == 1 else ports
    if (node.host, str(node.port)) not in zip(hosts, ports, strict=True):
        return None
    alone = {**given, "host": node.host, "port": str(node.port)}
    return make_conninfo(**{**alone, "target_session_attrs": "any"})
