"""Declare what a shard's commits survive, and ask Postgres for it where that is allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from tenantry.catalog_writes import declare_durability
from tenantry.conninfo import parse
from tenantry.drive import drive
from tenantry_ops.cluster import read_map
from tenantry_ops.failover.ask import ask_shard, node_conninfo
from tenantry_ops.failover.record import read_record
from tenantry_ops.failover.sync import Sync, setting_for
from tenantry_ops.locking import connect, operation
from tenantry_schema.errors import FailoverRefused, InvalidConfig

if TYPE_CHECKING:
    from tenantry_ops.failover.standing import ShardStanding

LEVELS = ("local", "two-nodes")


def declare(catalog: str, name: str, level: str) -> list[str]:
    """Set a shard's durability; return the statements that are left to a superuser.

    Every node gets the same list of names, so that a promoted one waits for the others.

    :raises InvalidConfig: for a level that is none
    :raises FailoverRefused: when commits would wait for ever
    :raises MapChanged: when something else changed the map meanwhile: do it again
    """
    if level not in LEVELS:
        raise InvalidConfig(f"durability is {' or '.join(LEVELS)}, not {level!r:.40}")
    record, given = read_record(catalog, name), parse(catalog)
    with operation(catalog, "shard durability", name):
        shard = ask_shard(record, given)
        setting = setting_for(it.name for it in record.nodes)
        if level == "two-nodes":
            _check(shard)
        held, _ = read_map(catalog)
        left = []
        for found in shard.nodes:
            present = found.synchronous_standby_names
            wanted = (
                (setting if level == "two-nodes" else "") if _ours(present, setting) else present
            )
            if found.answers and wanted != present:
                conninfo = node_conninfo(given, record.node(found.node), "tenantry-shard")
                left += _set_names(found.node, conninfo, wanted)
        with connect(catalog) as conn, conn.transaction():
            drive(conn, declare_durability(name, level, version=held.version))
    return left


def _ours(present: str, setting: str) -> bool:
    """Say whether the setting may be changed: another one is somebody else's, such as Patroni's."""
    return present in {"", setting}


def _check(shard: ShardStanding) -> None:
    head = shard.primary
    if head is None:
        raise FailoverRefused(f"shard {shard.name}: no primary answers")
    if Sync.parse(head.synchronous_standby_names) is not None:
        return
    names = {it.node for it in shard.nodes} - {head.node}
    streaming = {it.name for it in head.replicas if it.state == "streaming"}
    if not names & streaming:
        seen = ", ".join(sorted(it or "(hidden)" for it in streaming)) or "nobody"
        raise FailoverRefused(
            f"shard {shard.name}: commits would wait for ever, because no replica receives under "
            f"the name of its node ({', '.join(sorted(names)) or 'none'}; there is {seen}): set "
            "application_name in its primary_conninfo, or set synchronous_standby_names yourself"
        )


def _set_names(node: str, conninfo: str, wanted: str) -> list[str]:
    text = (
        sql.SQL("ALTER SYSTEM SET synchronous_standby_names = {}").format(sql.Literal(wanted))
        if wanted
        else sql.SQL("ALTER SYSTEM RESET synchronous_standby_names")
    )
    with psycopg.connect(conninfo, autocommit=True) as conn:
        try:
            conn.execute(text)
            conn.execute("SELECT pg_reload_conf()")
        except psycopg.errors.InsufficientPrivilege:
            return [f"on {node}, as superuser: {text.as_string(conn)}; SELECT pg_reload_conf();"]
    return []
