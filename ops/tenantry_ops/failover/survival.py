"""What an acknowledged commit survives on a shard, and whether that is what was promised: pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tenantry_ops.failover.sync import Sync

if TYPE_CHECKING:
    from tenantry_ops.failover.standing import ShardStanding, Standing

_REPLICATED = {"on", "remote_apply"}


def synchronous(primary: Standing) -> tuple[str, ...]:
    """Return the standbys that a primary waits for and that stream now."""
    return tuple(
        it.name or "(hidden)"
        for it in primary.replicas
        if it.sync in {"sync", "quorum"} and it.state == "streaming"
    )


def survives(shard: ShardStanding) -> str:
    """Say what a commit that is acknowledged now survives."""
    head = shard.primary
    if head is None:
        return "nothing is acknowledged: no primary answers"
    if head.synchronous_commit == "off":
        return f"not even the end of {head.node}: synchronous_commit is off"
    here = (
        f"the end of {head.node}'s process, not of its machine: fsync is off"
        if not head.fsync
        else f"a restart of {head.node}, not the loss of its disk"
    )
    sync = Sync.parse(head.synchronous_standby_names)
    if sync is None or head.synchronous_commit == "local":
        return here
    current = synchronous(head)
    if len(current) < sync.count:
        return f"nothing is acknowledged: no synchronous standby streams from {head.node}"
    if head.synchronous_commit not in _REPLICATED:
        return f"{here}; a standby has it in memory: synchronous_commit is remote_write"
    return f"the loss of {head.node}: {sync.count} of {', '.join(current)} has it on disk"


def broken_promise(shard: ShardStanding) -> str | None:
    """Say why ``two-nodes`` is not kept now, or None when it is, or was not promised."""
    head = shard.primary
    if shard.durability != "two-nodes" or head is None:
        return None
    if Sync.parse(head.synchronous_standby_names) is None:
        return "synchronous_standby_names is empty"
    if head.synchronous_commit not in _REPLICATED:
        return f"synchronous_commit is {head.synchronous_commit}"
    if not synchronous(head):
        return "no synchronous standby streams, so commits wait"
    return None
