"""Switchover, failover, rewiring: ask, plan, perform; and lead back what cannot be finished."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from tenantry.conninfo import parse
from tenantry_ops.failover.act import Actor
from tenantry_ops.failover.ask import settled
from tenantry_ops.failover.failing import Wish, plan_failover
from tenantry_ops.failover.hands import Hands, NoHands
from tenantry_ops.failover.journal import FAILOVER, REWIRE, SWITCHOVER, begun
from tenantry_ops.failover.loss import Accepted
from tenantry_ops.failover.perform import Outcome, Performance
from tenantry_ops.failover.record import read_record
from tenantry_ops.failover.steps import Do, Step
from tenantry_ops.failover.switching import MOST_LAG, plan_return, plan_switchover
from tenantry_schema.errors import FailoverRefused, FailoverUnfinished

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tenantry_ops.failover.gate import Gate
    from tenantry_ops.failover.standing import ShardStanding


def _quiet(_message: str) -> None:
    return


def switchover(  # noqa: PLR0913  each is one thing an operator may want otherwise
    catalog: str,
    name: str,
    to: str,
    *,
    hands: Hands | None = None,
    gates: Sequence[Gate] = (),
    hook: str | None = None,
    most_lag: int = MOST_LAG,
    pause_s: float = 10.0,
    progress: Callable[[str], None] = _quiet,
) -> Outcome:
    """Make another node of a shard its primary, as planned; running it again resumes it.

    :param gates: the poolers in front of the shard
    :param hook: command that makes a server of the operator's a replica
    :param pause_s: how long clients may be held back before the switch
    :raises FailoverRefused: when it cannot work; nothing was changed
    :raises FailoverUnfinished: when it stopped midway, after what was begun had been taken back, or
        after the promotion
    """
    record, given = read_record(catalog, name), parse(catalog)
    hands = hands or NoHands()
    with (
        Actor(record, given, hands=hands, gates=gates, hook=hook, pause_s=pause_s) as actor,
        closing(Performance(SWITCHOVER, catalog, actor, progress)) as run,
    ):
        shard = settled(actor.ask)
        shard.node(to)
        actor.lock(shard)
        known = begun(catalog, SWITCHOVER, name)
        shard, old = _resume(run, shard, known, to)

        def plan(found: ShardStanding) -> tuple[Step, ...]:
            return plan_switchover(found, old, to, ours=hands.ours, most_lag=most_lag)

        try:
            steps = plan(shard) or _last(known, to)
        except FailoverRefused as refused:
            if known is not None and not shard.node(to).primary:
                _lead_back(run, shard, known, refused)
            raise
        if not steps:
            return run.outcome(to)
        run.begin(shard, {"from": old, "to": to})
        try:
            run.perform(steps)
            run.end(plan(_look(actor)))
        except BaseException as error:
            _take_back(run, old, to, error)
            raise
        return run.outcome(to)


def failover(  # noqa: PLR0913  each is one thing an operator may want otherwise
    catalog: str,
    name: str,
    *,
    to: str | None = None,
    accept: str | None = None,
    fenced: bool = False,
    hands: Hands | None = None,
    gates: Sequence[Gate] = (),
    hook: str | None = None,
    progress: Callable[[str], None] = _quiet,
) -> Outcome:
    """Promote a standby of a shard whose primary is gone; running it again resumes it.

    :param accept: the loss that is accepted: the last LSN to be kept, or bytes of WAL
    :param fenced: the old primary was made sure to be stopped
    :raises FailoverRefused: with what would have to be said or done; nothing was changed
    """
    accepted = None if accept is None else Accepted.parse(accept)
    record, given = read_record(catalog, name), parse(catalog)
    hands = hands or NoHands()
    with (
        Actor(record, given, hands=hands, gates=gates, hook=hook) as actor,
        closing(Performance(FAILOVER, catalog, actor, progress)) as run,
    ):
        shard = actor.ask()
        actor.lock(shard)
        known = begun(catalog, FAILOVER, name)
        wish = Wish(to or (known or {}).get("to"), accepted, fenced)
        plan = plan_failover(shard, wish, ours=hands.ours)
        loss = None if plan.loss is None else str(plan.loss)
        steps = plan.steps or _last(known, plan.new)
        if not steps:
            return run.outcome(plan.new)
        if loss is not None:
            progress(f"{plan.new} becomes primary; may be lost: {loss}")
        run.begin(shard, {"to": plan.new, "accepted": accept, "loss": loss})
        run.perform(steps)
        again = plan_failover(_look(actor), Wish(plan.new), ours=hands.ours)
        run.supersede(SWITCHOVER)
        run.end(again.steps)
        return run.outcome(plan.new, loss)


def rewire(  # noqa: PLR0913  as the others
    catalog: str,
    name: str,
    node: str,
    *,
    hands: Hands | None = None,
    hook: str | None = None,
    progress: Callable[[str], None] = _quiet,
) -> Outcome:
    """Make a node that lost touch, or a deposed primary, a replica of its shard's primary.

    :raises FailoverRefused: when the shard has no primary, the node is it, or belongs elsewhere
    """
    record, given = read_record(catalog, name), parse(catalog)
    hands = hands or NoHands()
    with (
        Actor(record, given, hands=hands, hook=hook) as actor,
        closing(Performance(REWIRE, catalog, actor, progress)) as run,
    ):
        shard = actor.ask()
        found, head = shard.node(node), shard.primary
        if head is None or head.node == node:
            why = "no primary answers" if head is None else f"{node} is its primary"
            raise FailoverRefused(f"shard {name}: {why}")
        if found.answers and found.system_identifier != head.system_identifier:
            raise FailoverRefused(
                f"shard {name}: {node} is of another cluster, whose data would be lost: correct "
                "tenantry.nodes"
            )
        actor.lock(shard)
        if shard.follows(found):
            return run.outcome(head.node)
        run.begin(shard, {"node": node})
        run.perform([Step(Do.REWIRE, node)])
        run.end(())
        return run.outcome(head.node)


def _last(known: dict[str, str] | None, new: str) -> tuple[Step, ...]:
    """Return what is left when a run was killed before it could say so: clients may be waiting."""
    return () if known is None else (Step(Do.RESUME, new),)


def _look(actor: Actor) -> ShardStanding:
    """Look again at the end; what is left to the operator is not waited for."""
    return actor.ask() if actor.remaining else settled(actor.ask)


def _resume(
    run: Performance, shard: ShardStanding, known: dict[str, str] | None, to: str
) -> tuple[ShardStanding, str]:
    """Return where the shard stands and who was primary, having led back another switchover."""
    if known is None:
        head = shard.primary
        if head is None:
            raise FailoverRefused(f"shard {shard.name}: no primary answers: use failover")
        return shard, head.node
    old, begun_to = known["from"], known["to"]
    if begun_to == to or shard.node(begun_to).primary:
        return shard, old if begun_to == to else begun_to
    _lead_back(run, shard, known, FailoverRefused(f"another is wanted: {to}"))
    return settled(run.actor.ask), old


def _lead_back(
    run: Performance, shard: ShardStanding, known: dict[str, str], why: FailoverRefused
) -> None:
    """Take back what another process had begun."""
    steps = plan_return(shard, known["from"], known["to"])
    run.begin(shard, dict(known))
    run.perform(steps)
    run.failed(why)


def _take_back(run: Performance, old: str, to: str, error: BaseException) -> None:
    """Lead back to the old primary, or forward to the new one when it was told to promote."""
    shard = run.actor.ask()
    if run.promoting() or shard.node(to).primary:
        run.actor.lead_back(to)
        if isinstance(error, Exception):
            raise FailoverUnfinished(
                f"{to} was promoted, but then: {error} (run the switchover again, it goes on)"
            ) from error
        return
    run.perform(plan_return(shard, old, to, sure=True))
    run.failed(error)
    if isinstance(error, Exception):
        raise FailoverUnfinished(
            f"the switchover was taken back, {old} is primary as before: {error}"
        ) from error
