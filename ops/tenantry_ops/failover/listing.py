"""A shard's nodes as rows for people and programs: pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tenantry_ops.failover.standing import lsn_text

if TYPE_CHECKING:
    from tenantry_ops.failover.standing import ShardStanding, Standing


def rows_of(shard: ShardStanding) -> list[dict[str, Any]]:
    """Return one row for each node."""
    return [_row(shard, it) for it in shard.nodes]


def role_of(shard: ShardStanding, node: Standing) -> str:
    """Return what a node is to its shard, in a word or two."""
    head = shard.primary
    if not node.answers:
        return "down"
    if head is not None and node.system_identifier != head.system_identifier:
        return "of another cluster"
    if node in shard.deposed:
        return "deposed"
    if node.primary:
        return "primary, read-only" if node.read_only else "primary"
    return "replica" if shard.follows(node) else "replica, not following"


def _row(shard: ShardStanding, node: Standing) -> dict[str, Any]:
    head = shard.primary
    behind = None
    if head is not None and shard.follows(node) and node.replayed is not None:
        behind = max(0, (head.written or 0) - node.replayed)
    sync = [it.sync for it in (head.replicas if head else ()) if it.name == node.node]
    return {
        "node": node.node,
        "role": role_of(shard, node),
        "timeline": node.timeline or None,
        "certified": node.is_certified if node.primary else None,
        "lsn": lsn_text(node.reach[1]) if node.answers else None,
        "behind_bytes": behind,
        "sync": sync[0] if sync else None,
        "error": node.error,
    }
