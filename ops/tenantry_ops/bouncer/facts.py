"""What a rendering needs to know of the fleet: which node is primary, and how much it can take."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psycopg

from tenantry.conninfo import primary_conninfo
from tenantry_ops.bouncer.nodes import Facts, NodeFacts
from tenantry_schema.errors import ShardUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tenantry.map import Node, Shard

_ASK = """
SELECT pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on' AS replica,
    current_setting('max_connections')::int,
    current_setting('superuser_reserved_connections')::int
        + coalesce(current_setting('reserved_connections', true)::int, 0),
    least(
        (SELECT nullif(datconnlimit, -1) FROM pg_database WHERE datname = current_database()),
        (SELECT sum(rolconnlimit) FROM pg_roles WHERE rolname = ANY (%(users)s)
            HAVING bool_and(rolconnlimit >= 0))
    )::int
"""
_ROUTERS = """
SELECT count(*) FROM tenantry.routers WHERE seen_at > now() - interval '1 minute'
"""


def gather(
    shards: Sequence[Shard],
    given: Mapping[str, Any],
    users: Sequence[str],
    catalog: str | None = None,
) -> Facts:
    """Ask every node.

    :param given: who connects, and how: the parsed conninfo of the catalog
    :param catalog: conninfo of the catalog, when there is one that knows routers
    :raises ShardUnavailable: when a shard has no writable node, or more than one
    """
    nodes = tuple(node for shard in shards for node in _shard(shard, given, users))
    routers = 0
    if catalog is not None:
        with psycopg.connect(catalog) as conn:
            row = conn.execute(_ROUTERS).fetchone()
            routers = 0 if row is None else row[0]
    return Facts(nodes, routers)


def _shard(shard: Shard, given: Mapping[str, Any], users: Sequence[str]) -> list[NodeFacts]:
    asked = [(node, _ask(shard, node, given, users)) for node in shard.nodes]
    primaries = [found for _, found in asked if isinstance(found, NodeFacts) and found.primary]
    if len(primaries) != 1:
        said = "; ".join(
            f"{node.name}: {found}" for node, found in asked if not isinstance(found, NodeFacts)
        )
        raise ShardUnavailable(
            f"shard {shard.name!r} has {len(primaries)} writable nodes instead of one"
            f"{f' ({said})' if said else ''}: nothing was rendered; see `tenantry doctor`"
        )
    return [
        found
        if isinstance(found, NodeFacts)
        # A replica that is down now keeps its entry: it comes back.
        else replace(
            primaries[0],
            name=node.name,
            host=node.host,
            port=node.port,
            dbname=node.dbname,
            primary=False,
            answers=False,
        )
        for node, found in asked
    ]


def _ask(
    shard: Shard, node: Node, given: Mapping[str, Any], users: Sequence[str]
) -> NodeFacts | str:
    conninfo = primary_conninfo(given, [node], "tenantry-bouncer")
    try:
        # The role is what is asked, so any is welcome.
        with psycopg.connect(conninfo, target_session_attrs="any", connect_timeout=5) as conn:
            row: Any = conn.execute(_ASK, {"users": list(users)}).fetchone()
    except psycopg.OperationalError as error:
        return (str(error).splitlines() or ["no reason was given"])[0]
    replica, most, reserved, limit = row
    return NodeFacts(
        shard.name,
        node.name,
        node.host,
        node.port,
        node.dbname,
        primary=not replica,
        max_connections=most,
        reserved=reserved,
        limit=limit,
    )
