"""What the facts mean: pure. Each finding names the object, what is wrong, and what to do next."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from tenantry_ops.doctor.finding import Finding
from tenantry_ops.doctor.identity import identities
from tenantry_ops.doctor.replication import replication
from tenantry_ops.doctor.roles import roles

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tenantry_ops.doctor.facts import FleetFacts, NodeFacts, ShardFacts

_POLICIES = 2


def examine(facts: FleetFacts) -> list[Finding]:
    """Return everything that is wrong with a fleet; nothing when it is healthy."""
    return [
        *_nodes(facts),
        *_placement(facts),
        *(found for shard in facts.shards.values() for found in _isolation(shard)),
        *(found for shard in facts.shards.values() for found in roles(shard)),
        *identities(facts),
        *(found for shard in facts.standings for found in replication(shard)),
        *_schema(facts),
        *_routers(facts),
        *_operations(facts),
    ]


def _nodes(facts: FleetFacts) -> Iterator[Finding]:
    by_shard: dict[str, list[NodeFacts]] = defaultdict(list)
    for node in facts.nodes:
        by_shard[node.shard].append(node)
        if node.error is not None:
            yield Finding(
                f"node {node.node}",
                f"does not answer: {node.error}",
                "start it, or take it out of tenantry.nodes",
            )
    for shard in facts.map.shards.values():
        if not shard.nodes:
            yield Finding(f"shard {shard.name}", "has no nodes", "add one to tenantry.nodes")
    for number in facts.map.undescribed:
        yield Finding(
            f"shard {number}",
            "has buckets, but is not described in the catalog",
            "enter it in tenantry.shards and tenantry.nodes, or place its buckets elsewhere",
        )
    for name, why in facts.misplaced.items():
        yield Finding(
            f"shard {name}",
            f"cannot be asked for its primary: {why}",
            "give its nodes one dbname in tenantry.nodes, then let routers know: "
            "UPDATE tenantry.fleet SET map_version = map_version + 1",
        )
    for name, nodes in by_shard.items():
        answering = [it for it in nodes if it.error is None]
        writable = [it for it in answering if not it.in_recovery and not it.read_only]
        if len(writable) != 1:
            names = ", ".join(it.node for it in writable) or "none"
            yield Finding(
                f"shard {name}",
                f"has {len(writable)} writable primaries ({names}) instead of one",
                "promote a replica, or stop the node that must not be primary",
            )
        if len({it.system_identifier for it in answering}) > 1:
            yield Finding(
                f"shard {name}",
                "lists nodes of different clusters",
                "correct tenantry.nodes: a replica has its primary's system identifier",
            )


def _placement(facts: FleetFacts) -> Iterator[Finding]:
    serving = Counter(
        schema
        for shard in facts.shards.values()
        for schema, usable in shard.served.items()
        if usable
    )
    expected = {}
    for placement in facts.map.placements():
        expected[placement.schema] = placement.shard
        shard = facts.shards.get(placement.shard)
        if shard is not None and not shard.served.get(placement.schema, False):
            why = "may not be used by" if placement.schema in shard.served else "is not there for"
            yield Finding(
                f"bucket {placement.schema}",
                f"{why} the application on shard {shard.name}",
                "finish the move that it is part of, or restore the schema and its grant",
            )
        if serving[placement.schema] > 1:
            yield Finding(
                f"bucket {placement.schema}",
                f"is served by {serving[placement.schema]} shards at once",
                f"revoke USAGE on it from tenantry_app everywhere but on shard {placement.shard}",
            )
    for schema in sorted(set(serving) - set(expected)):
        yield Finding(
            f"bucket {schema}",
            "may be used by the application, but is not in the map",
            "revoke USAGE on it from tenantry_app, or run `tenantry init` to its end",
        )


def _isolation(shard: ShardFacts) -> Iterator[Finding]:
    for table in shard.tables:
        if not table.forced or table.policies < _POLICIES:
            yield Finding(
                f"table {table.schema}.{table.table} on {shard.name}",
                "row-level security is not forced, or its policies are missing",
                "ALTER TABLE … ENABLE, FORCE ROW LEVEL SECURITY; see `tenantry schema diff`",
            )
    if shard.parents_open:
        yield Finding(
            f"schema fleet on {shard.name}",
            "the application may use the parents",
            "REVOKE USAGE ON SCHEMA fleet FROM tenantry_app, PUBLIC",
        )


def _schema(facts: FleetFacts) -> Iterator[Finding]:
    if facts.models_error is not None:
        yield Finding(
            "models",
            f"cannot be used here, so no revision was compared: {facts.models_error}",
            "run it where the service's package can be imported (its virtual environment, or its "
            "folder in PYTHONPATH), or correct models in tenantry.fleet",
        )
    if facts.schema is None:
        return
    for name in facts.schema.behind:
        yield Finding(
            f"schema of {name}",
            f"is at revision {', '.join(facts.schema.revisions[name]) or 'none'}",
            "run `tenantry migrate`",
        )


def _routers(facts: FleetFacts) -> Iterator[Finding]:
    for it in facts.routers:
        if it.map_version < facts.map.version:
            yield Finding(
                f"router {it.application} ({it.host}, pid {it.pid})",
                f"holds map version {it.map_version} of {facts.map.version}, "
                f"last heard of {it.silent} s ago",
                "wait a minute, after which one that was killed is forgotten; "
                "if it stays, check that it reaches the catalog",
            )


def _operations(facts: FleetFacts) -> Iterator[Finding]:
    for kind, subject, step, started in facts.left:
        yield Finding(
            f"operation {kind} of {subject}",
            f"was begun at {started:%Y-%m-%d %H:%M %Z}, reached {step!r}, and nobody works on it",
            f"run `tenantry {kind}` again: it goes on where it stopped",
        )
