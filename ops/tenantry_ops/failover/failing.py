"""The failover's planner: pure. A primary is gone; who takes its place, and what that may lose.

Nothing is promoted beside a primary that may still be acknowledging commits: one that answers and
takes writes, or that a standby still receives from. Commits are given up by an explicit word only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tenantry_ops.failover.loss import Accepted, Loss, loss_of
from tenantry_ops.failover.standing import farthest, lsn_text
from tenantry_ops.failover.steps import Do, Step
from tenantry_ops.failover.switching import finish
from tenantry_ops.failover.sync import Sync
from tenantry_schema.errors import FailoverRefused

if TYPE_CHECKING:
    from collections.abc import Collection

    from tenantry_ops.failover.standing import ShardStanding, Standing


@dataclass(frozen=True, slots=True)
class Failover:
    """What is to be done.

    :ivar loss: what may be lost, or None when the promotion has happened already
    """

    new: str
    loss: Loss | None
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Wish:
    """What the operator said.

    :ivar to: the node that shall be promoted, or None for the one that goes farthest
    :ivar fenced: the old primary was made sure to be stopped, whatever its standbys see
    """

    to: str | None = None
    accepted: Accepted | None = None
    fenced: bool = False


def plan_failover(shard: ShardStanding, wish: Wish, *, ours: Collection[str] = ()) -> Failover:
    """Choose a standby; return what is left to do until it is the primary that others follow.

    :param ours: nodes whose servers this process can stop and start
    :raises FailoverRefused: with what the operator would have to say or do
    """
    if wish.to is not None and shard.node(wish.to).primary:
        new = shard.node(wish.to)
        return Failover(wish.to, None, finish(shard, new, ours, revive=False))
    dead = _gone(shard, wish, ours)
    chosen = _choose(shard, wish)
    loss = loss_of(shard, chosen, dead)
    _check_loss(shard, chosen, loss, wish)
    steps = [Step(Do.FENCE, it.node) for it in shard.nodes if not it.answers and it.node in ours]
    steps += [
        Step(Do.FENCE if it.node in ours else Do.CLOSE, it.node) for it in shard.nodes if it.primary
    ]
    steps += [Step(Do.OPEN, chosen.node)] if chosen.closed else []
    steps += [Step(do, chosen.node) for do in (Do.PROMOTE, Do.CERTIFY, Do.RESUME)]
    steps += [
        Step(Do.REWIRE, it.node)
        for it in shard.standbys
        if it.node != chosen.node and it.system_identifier == chosen.system_identifier
    ]
    return Failover(chosen.node, loss, tuple(steps))


def _gone(shard: ShardStanding, wish: Wish, ours: Collection[str]) -> str | None:
    """Return the node that was the primary, which takes no writes; None when all are standbys."""
    writable = [it.node for it in shard.nodes if it.primary and not it.read_only]
    if writable:
        raise _refused(
            shard,
            f"{', '.join(writable)} is primary and takes writes: use switchover; after a promotion "
            f"that happened elsewhere use `tenantry shard certify {shard.name}`",
        )
    former = [it.node for it in shard.nodes if it.primary]
    silent = [it.node for it in shard.nodes if not it.answers]
    alive = [f"{it.node} ({it.error})" for it in shard.nodes if it.alive]
    if alive and not wish.fenced:
        raise _refused(
            shard,
            f"{', '.join(alive)} refuses us, but is there and may serve others: mend that, or stop "
            "it and say --fenced",
        )
    receiving = [it.node for it in shard.standbys if it.connected]
    if receiving and silent and not (former or wish.fenced or set(silent) <= set(ours)):
        raise _refused(
            shard,
            f"{', '.join(receiving)} still receives from the primary that does not answer here: "
            "mend the network, or stop the primary and say --fenced",
        )
    return next(iter(former or silent), None)


def _choose(shard: ShardStanding, wish: Wish) -> Standing:
    head = farthest(it for it in shard.nodes if it.answers)
    same = [
        it
        for it in shard.standbys
        if head is not None and it.system_identifier == head.system_identifier
    ]
    if wish.to is None:
        best = farthest(same)
        if best is None:
            raise _refused(shard, "no standby answers: start one, or restore a backup")
        return best
    chosen = shard.node(wish.to)
    if not chosen.answers:
        raise _refused(shard, f"{wish.to} does not answer: {chosen.error}")
    if chosen not in same:
        raise _refused(shard, f"{wish.to} is of another cluster: correct tenantry.nodes")
    return chosen


def _check_loss(shard: ShardStanding, chosen: Standing, loss: Loss, wish: Wish) -> None:
    required = shard.durability == "two-nodes" or Sync.parse(chosen.synchronous_standby_names)
    behind = farthest(shard.standbys)
    needed = required or (behind is not None and behind.reach > chosen.reach)
    if needed and not loss.covered_by(wish.accepted):
        how = (
            "a synchronous standby was required and none is proven current"
            if required
            else (f"{chosen.node} does not go as far as another standby")
        )
        raise _refused(
            shard,
            f"{how}; promoting {chosen.node} may lose {loss}. To accept exactly that, add "
            f"--accept-data-loss {lsn_text(loss.after)}",
        )


def _refused(shard: ShardStanding, why: str) -> FailoverRefused:
    return FailoverRefused(f"shard {shard.name}: {why}")
