"""Ask every node of a shard where it stands, all at once."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row

from tenantry.conninfo import primary_conninfo
from tenantry_ops.failover.standing import Replica, ShardStanding, Slot, Standing
from tenantry_schema.sql import load

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tenantry.map import Node
    from tenantry_ops.failover.record import ShardRecord

_SETTLES_S = 2.0
_LOOK_S = 0.05

_LINEAGE = """
SELECT timeline, (switch_lsn - '0/0'::pg_lsn)::bigint FROM tenantry.lineage
WHERE system_identifier = %s ORDER BY id
"""


def node_conninfo(given: Mapping[str, Any], node: Node, application: str) -> str:
    """Return how to reach one node, whatever its role is."""
    return make_conninfo(primary_conninfo(given, [node], application), target_session_attrs="any")


def ask_shard(
    record: ShardRecord,
    given: Mapping[str, Any],
    *,
    ended: Callable[[str], int | None] = lambda _: None,
) -> ShardStanding:
    """Ask all nodes of a shard.

    :param given: the catalog's conninfo: who connects, and how
    :param ended: where a server that does not answer was stopped, if that can be known
    """

    def ask(node: Node) -> Standing:
        found = ask_node(node.name, node_conninfo(given, node, "tenantry-shard"))
        return found if found.answers else replace(found, ended=ended(node.name))

    with ThreadPoolExecutor(max(1, len(record.nodes))) as pool:
        nodes = tuple(pool.map(ask, record.nodes))
    return ShardStanding(record.name, record.durability, nodes)


def settled(ask: Callable[[], ShardStanding]) -> ShardStanding:
    """Ask until every standby follows: one that has just been started is given time to connect."""
    until = time.monotonic() + _SETTLES_S
    while True:
        found = ask()
        if all(map(found.follows, found.standbys)) or time.monotonic() > until:
            return found
        time.sleep(_LOOK_S)


def ask_node(name: str, conninfo: str) -> Standing:
    """Ask one node; what keeps it from answering is part of the answer."""
    try:
        with psycopg.connect(conninfo, autocommit=True) as conn:
            return stand(name, conn)
    except psycopg.Error as error:
        why = (str(error).splitlines() or ["no reason was given"])[0]
        # A primary that has no connection left, or does not know our password, serves others.
        found = psycopg.pq.PGconn.ping(conninfo.encode())
        return Standing(name, why, alive=found in {psycopg.pq.Ping.OK, psycopg.pq.Ping.REJECT})


def stand(name: str, conn: psycopg.Connection[Any]) -> Standing:
    """Ask one node over a connection that is there."""
    cursor = conn.cursor(row_factory=dict_row)
    told: dict[str, Any] = cursor.execute(load("node_standing")).fetchone() or {}
    certified: tuple[Any, ...] = ()
    if told.pop("has_lineage"):
        certified = tuple(conn.execute(_LINEAGE, (told["system_identifier"],)).fetchall())
    replicas = tuple(Replica(**it) for it in told.pop("replicas"))
    slots = tuple(Slot(**it) for it in told.pop("slots"))
    return Standing(name, replicas=replicas, slots=slots, certified=certified, **told)
