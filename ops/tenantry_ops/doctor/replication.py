"""Whether a shard's nodes replicate one certified history, and keep what was promised: pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tenantry_ops.doctor.finding import Finding
from tenantry_ops.failover.standing import lsn_text
from tenantry_ops.failover.survival import broken_promise, survives
from tenantry_schema.naming import slot_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tenantry_ops.failover.standing import ShardStanding, Slot, Standing


def replication(shard: ShardStanding) -> Iterator[Finding]:
    """Yield what is wrong between the nodes of a shard."""
    head = shard.primary
    why = broken_promise(shard)
    if why is not None:
        yield Finding(
            f"durability of {shard.name}",
            f"is promised to be two-nodes, but {why}: a commit survives {survives(shard)}",
            f"start its standbys, or `tenantry shard durability {shard.name} two-nodes` (or local)",
        )
    for node in shard.nodes:
        if node.answers:
            yield from _node(shard, node)
        if node.answers and not node.sees_others:
            yield Finding(
                f"node {node.node}",
                "does not tell tenantry_operator who replicates from it",
                "as superuser: GRANT pg_read_all_stats TO tenantry_operator",
            )
    if head is not None and not head.is_certified:
        yield Finding(
            f"shard {shard.name}",
            f"is on timeline {head.timeline}, which nobody certified: tokens from before it are "
            "not told apart",
            f"run `tenantry shard certify {shard.name}`",
        )


def _node(shard: ShardStanding, node: Standing) -> Iterator[Finding]:
    head = shard.primary
    rewire = f"run `tenantry shard rewire {shard.name} {node.node}`"
    if head is not None and node.system_identifier != head.system_identifier:
        yield Finding(
            f"node {node.node}",
            f"is of another cluster ({node.system_identifier}) than the shard's primary "
            f"{head.node} ({head.system_identifier})",
            "correct tenantry.nodes in the catalog, or make it anew from the primary",
        )
    elif node in shard.deposed and head is not None:
        yield Finding(
            f"node {node.node}",
            f"is a deposed primary: it is on timeline {node.timeline}, and {head.node} on "
            f"{head.timeline}; what it committed since is lost with it",
            f"stop it, then {rewire}",
        )
    elif node.in_recovery and head is not None and not shard.follows(node):
        yield Finding(
            f"node {node.node}",
            f"does not receive from {head.node}: it stands at {lsn_text(node.reach[1])} on "
            f"timeline {node.timeline}",
            f"see its log; {rewire}",
        )
    for slot in node.slots:
        if not slot.active and not _excused(shard, slot):
            kept = "" if slot.kept_from is None else f" since {lsn_text(slot.kept_from)}"
            yield Finding(
                f"slot {slot.name} on {node.node}",
                f"keeps WAL{kept}, and nobody consumes it",
                f"start its consumer, or SELECT pg_drop_replication_slot('{slot.name}')",
            )


def _excused(shard: ShardStanding, slot: Slot) -> bool:
    """Say whether a slot waits for a node that is a finding of its own."""
    waiting = (it for it in shard.nodes if not shard.follows(it))
    return any(slot_name(it.node) == slot.name for it in waiting)
