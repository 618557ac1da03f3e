"""The switchover's planner: pure. What stands is turned into what is left to do, or refused.

The plan is made of facts alone, so a switchover that was killed after any step is planned again and
goes on. The order keeps two things at every cut::

    the old primary takes no writes   before  the new one is promoted
    the new one has all that was written  before  it is promoted

Until PROMOTE has begun, :func:`plan_return` leads back to the old primary; from then on only
forward, because a promotion that was asked for happens sooner or later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tenantry_ops.failover.standing import lsn_text
from tenantry_ops.failover.steps import Do, Step
from tenantry_ops.failover.sync import Sync
from tenantry_schema.errors import FailoverRefused

if TYPE_CHECKING:
    from collections.abc import Collection

    from tenantry_ops.failover.standing import ShardStanding, Standing

#: How much WAL a target may still have to receive when a switchover begins.
MOST_LAG = 16 * 1024 * 1024


def plan_switchover(
    shard: ShardStanding,
    old: str,
    new: str,
    *,
    ours: Collection[str] = (),
    most_lag: int = MOST_LAG,
) -> tuple[Step, ...]:
    """Return what is left to do until ``new`` is the primary that all others follow.

    :param ours: nodes whose servers this process can stop and start
    :raises FailoverRefused: when something stands in the way; nothing was changed
    """
    target = shard.node(new)
    if target.primary:
        return finish(shard, target, ours)
    former = shard.node(old)
    _check_target(shard, target)
    reopen = (Step(Do.OPEN, new),) if target.closed else ()
    others = [it.node for it in shard.standbys if it.node not in {old, new}]
    tail = (
        *(Step(Do.CATCH_UP, new, old), *reopen, Step(Do.PROMOTE, new)),
        *(Step(Do.CERTIFY, new), Step(Do.RESUME, new)),
        *(Step(Do.REWIRE, it) for it in (*others, old)),
    )
    if not former.answers:
        if former.ended is None:
            raise _refused(shard, f"{old} does not answer ({former.error}): use failover")
        return (Step(Do.PAUSE, new), *tail)
    _check_pair(shard, former, target, most_lag)
    stop = Do.STOP if old in ours else Do.CLOSE
    calm = (Step(Do.CHECKPOINT, new), Step(Do.CHECKPOINT, old), Step(Do.PAUSE, old))
    return (*calm, Step(stop, old), *tail)


def plan_return(
    shard: ShardStanding, old: str, new: str, *, sure: bool = False
) -> tuple[Step, ...]:
    """Return what leads back to the old primary.

    :param sure: whether the caller knows that the new one was not promoted, answer or not
    :raises FailoverRefused: when the new one was promoted already, or may have been
    """
    target = shard.node(new)
    if target.primary:
        raise _refused(shard, f"{new} is promoted: there is no way back, run it again to finish")
    if not target.answers and not sure:
        raise _refused(
            shard, f"{new} does not answer ({target.error}) and may be promoted: start it"
        )
    former = shard.node(old)
    if not former.answers:
        return Step(Do.START, old), Step(Do.RESUME, old)
    reopen = (Step(Do.OPEN, old),) if former.closed else ()
    return (*reopen, Step(Do.RESUME, old))


def finish(
    shard: ShardStanding, new: Standing, ours: Collection[str], *, revive: bool = True
) -> tuple[Step, ...]:
    """Return what is left to do once a node is promoted.

    :param revive: whether servers of ours that are down are made replicas as well
    """
    head = shard.primary
    if head is not None and head.node != new.node:
        raise _refused(shard, f"{new.node} is deposed: {head.node} is on a later timeline")
    left = [] if new.is_certified else [Step(Do.CERTIFY, new.node)]
    left += [Step(Do.OPEN, new.node)] if new.closed else []
    # A standby must not find the old primary again while it is redirected.
    rewired = [
        Step(Do.REWIRE, it.node)
        for it in sorted(shard.nodes, key=_is_standby, reverse=True)
        if it.node != new.node
        and not shard.follows(it)
        and (it.answers or (revive and it.node in ours))
        and it.system_identifier in {None, new.system_identifier}
    ]
    if left or rewired:
        left.append(Step(Do.RESUME, new.node))
    return (*left, *rewired)


def _check_target(shard: ShardStanding, target: Standing) -> None:
    if not target.answers:
        raise _refused(shard, f"{target.node} does not answer: {target.error}")
    sync = Sync.parse(target.synchronous_standby_names)
    if shard.durability == "two-nodes" and sync is None:
        raise _refused(
            shard,
            f"its commits are promised to be on two nodes, but {target.node} would ask for no "
            f"synchronous standby: run `tenantry shard durability {shard.name} two-nodes` first",
        )


def _check_pair(shard: ShardStanding, former: Standing, target: Standing, most_lag: int) -> None:
    others = [it.node for it in shard.nodes if it.primary and it.node != former.node]
    if others:
        raise _refused(shard, f"besides {former.node}, {', '.join(others)} is a primary as well")
    if former.in_recovery:
        raise _refused(shard, f"{former.node} is no primary: there is nothing to switch from")
    if former.system_identifier != target.system_identifier:
        raise _refused(
            shard,
            f"{target.node} is of another cluster ({target.system_identifier}, "
            f"{former.node} has {former.system_identifier}): correct tenantry.nodes",
        )
    if not target.streaming or target.timeline != former.timeline:
        raise _refused(shard, f"{target.node} does not stream: see `tenantry shard list`")
    moving = [slot.name for slot in former.slots if slot.logical]
    if moving:
        raise _refused(
            shard,
            f"logical slots would be lost ({', '.join(moving)}): finish or abort the moves that "
            "they belong to",
        )
    lag = (former.written or 0) - (target.received or 0)
    if lag > most_lag:
        raise _refused(
            shard,
            f"{target.node} is {lag:,} bytes behind ({lsn_text(target.received or 0)}), more than "
            f"{most_lag:,}: wait, or allow more with --max-lag",
        )


def _is_standby(node: Standing) -> bool:
    return node.answers and node.in_recovery


def _refused(shard: ShardStanding, why: str) -> FailoverRefused:
    return FailoverRefused(f"shard {shard.name}: {why}")
