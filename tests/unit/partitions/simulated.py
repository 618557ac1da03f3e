"""A table without a server: what each step would leave behind, and what a killed run leaves."""

from __future__ import annotations

from dataclasses import replace

from tenantry_partitions.planner import plan
from tenantry_partitions.policy import AtEnd
from tenantry_partitions.state import Default, Partition, Retired
from tenantry_partitions.steps import (
    Archive,
    Create,
    Detach,
    Drop,
    Finalize,
    Guard,
    Promote,
    Unguard,
)


def applied(state, step):  # noqa: C901, PLR0911  one for each step
    """Return the table after a step; what the server would refuse fails."""
    span = (step.start, step.end)
    match step:
        case Create():
            assert not any(it.start < step.end and step.start < it.end for it in state.partitions)
            assert step.partition not in names(state)
            if state.default is not None and state.default.filled:
                guard = state.default.guard
                assert guard is not None
                assert guard[0] <= step.start
                assert step.end <= guard[1]
            made = Partition(step.start, step.end, step.partition, used=False)
            return replace(state, partitions=(*state.partitions, made))
        case Finalize():
            it = next(it for it in state.partitions if it.name == step.partition)
            assert it.pending
            return left(state, it, it.then)
        case Detach():
            it = next(it for it in state.partitions if it.name == step.partition)
            assert step.concurrently == (state.default is None)
            assert not any(it.pending for it in state.partitions)
            return left(state, it, step.then)
        case Archive():
            return replace(state, retired=tuple(_archived(it, step) for it in state.retired))
        case Drop():
            gone = next(it for it in state.retired if it.name == step.partition)
            assert gone.archived or gone.then is AtEnd.DROP
            return replace(state, retired=tuple(it for it in state.retired if it != gone))
        case Guard():
            for rows in (state.default.rows, state.default.beyond):
                assert rows is None or rows[1] < step.start or step.end <= rows[0]
            return replace(state, default=replace(state.default, guard=span, unproved=None))
        case Unguard():
            if span in state.default.promoting:
                left_over = tuple(it for it in state.default.promoting if it != span)
                return replace(state, default=replace(state.default, promoting=left_over))
            assert span in {state.default.guard, state.default.unproved}
            return replace(state, default=replace(state.default, guard=None, unproved=None))
        case Promote():
            first, last = state.default.rows
            assert state.default.beyond is None
            assert state.default.guard is state.default.unproved is None
            assert state.default.promoting == ()
            assert step.start <= first
            assert last < step.end
            assert not any(it.start < step.end and step.start < it.end for it in state.partitions)
            made = Partition(step.start, step.end, step.partition)
            return replace(
                state, partitions=(*state.partitions, made), default=Default(step.default)
            )


def names(state):
    return {it.name for it in state.partitions + state.retired} | state.taken


def left(state, partition, then):
    """A detached partition: ours knows what it is for, another's is only a name that is taken."""
    rest = tuple(it for it in state.partitions if it != partition)
    if then is None:
        return replace(state, partitions=rest, taken=state.taken | {partition.name})
    gone = Retired(partition.start, partition.end, partition.name, then)
    return replace(state, partitions=rest, retired=(*state.retired, gone))


def killed_inside(state, step):
    """Return the states that a step may leave which was killed between its transactions."""
    if isinstance(step, Detach) and step.concurrently:
        it = next(it for it in state.partitions if it.name == step.partition)
        half = replace(it, pending=True, then=step.then)
        yield replace(state, partitions=(*(p for p in state.partitions if p != it), half))
    if isinstance(step, Guard):
        yield replace(state, default=replace(state.default, unproved=(step.start, step.end)))
    if isinstance(step, Promote):
        yield replace(state, default=replace(state.default, promoting=((step.start, step.end),)))


def settled(policy, state, now):
    """Run plans until nothing is due; what a step uncovered may take another one."""
    for _ in range(6):
        found = plan(policy, state, now, archiving=True)
        if not found.steps:
            return state
        for step in found.steps:
            state = applied(state, step)
    raise AssertionError(f"never settles: {found.steps}")


def _archived(retired, step):
    return replace(retired, archived=True) if retired.name == step.partition else retired


def comparable(state):
    """What counts of a state: the order of its parts does not."""
    return (
        sorted(state.partitions),
        sorted(state.retired),
        state.default,
        state.taken,
    )
