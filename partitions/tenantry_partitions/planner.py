"""From a policy, what is there, and the time, to the steps that are due: pure.

What there is to do follows from the partitions' bounds alone, never from names, row counts or what
an earlier run meant to do. So a plan may be cut off after any step and made anew:

- what is made already is covered, and not made again;
- a detach that was interrupted is pending, and is finished before any other begins;
- a partition that was detached carries on itself what it was detached for.

Steps that keep writes possible come before those that free space, and wait for none of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tenantry_partitions.coverage import contains, gaps, overlaps, uncovered
from tenantry_partitions.encoding import BEGINNING
from tenantry_partitions.findings import Finding, findings
from tenantry_partitions.policy import AtEnd
from tenantry_partitions.state import Default, Partition
from tenantry_partitions.steps import (
    Archive,
    Create,
    Detach,
    Drop,
    Finalize,
    Guard,
    Promote,
    Step,
    Unguard,
)
from tenantry_schema.timing import partition_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from tenantry_partitions.coverage import Range
    from tenantry_partitions.policy import Policy
    from tenantry_partitions.state import TableState

#: A new set begins this many partitions before the current one, for rows that come late.
_BEHIND = 1

_NO_STORE = Finding(
    "archive",
    "partitions are past their retention and wait, because no store was given",
    "name one with --archive or TENANTRY_ARCHIVE",
    wrong=True,
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is due for one table.

    :ivar ahead: how many partitions lie ready beyond the current one without a gap; -1 when not
        even now is covered
    """

    schema: str
    table: str
    steps: tuple[Step, ...]
    findings: tuple[Finding, ...]
    ahead: int

    @property
    def clean(self) -> bool:
        """Whether nothing is due and nothing is wrong."""
        return not self.steps and not any(it.wrong for it in self.findings)


def plan(policy: Policy, state: TableState, now: datetime, *, archiving: bool = False) -> Plan:
    """Return the steps that are due, in their order, and what was found.

    :param now: the database's time
    :param archiving: whether there is a store that expired partitions can be archived to
    """
    promotion = _promotion(policy, state, now)
    after = state if promotion is None else _promoted(state, promotion)
    due = [
        (partition_name(state.table, start, policy.pattern), start, end)
        for start, end in uncovered(policy.grid, _wanted(policy, after, now), _covered(after))
        if not _hidden(after, (start, end))
    ]
    taken = _names(after)
    free = [it for it in due if it[0] not in taken]
    # Before a promotion, whose CHECK keeps rows of other times out for as long as it is proved.
    ready = [it for it in free if not _behind_rows(state, it[1:])]
    rest = [it for it in free if it not in ready and not _behind_rows(after, it[1:])]
    steps = [
        *_interrupted(state),
        *_creations(policy, state, now, ready),
        *([] if promotion is None else [promotion]),
        *([] if promotion is None else _creations(policy, after, now, rest)),
        *_finalize(state),
    ]
    found = findings(
        policy,
        state,
        now,
        squatted=[it for it in due if it[0] in taken],
        promoted=promotion is not None,
    )
    retirements = list(_retirements(policy, state, now))
    if policy.at_end is not AtEnd.ARCHIVE or archiving:
        steps += retirements
    elif retirements:
        found.append(_NO_STORE)
    return Plan(state.schema, state.table, tuple(steps), tuple(found), ahead(policy, state, now))


def ahead(policy: Policy, state: TableState, now: datetime) -> int:
    """Return how many partitions lie ready beyond the current one without a gap; -1 for none."""
    reached = now
    for partition in sorted(state.partitions):
        if partition.start <= reached < partition.end and not partition.pending:
            reached = partition.end
    if reached == now:
        return -1
    grid, current = policy.grid, policy.grid.index(now)
    return grid.index(min(reached, policy.horizon(now))) - current - 1


def _wanted(policy: Policy, state: TableState, now: datetime) -> Range:
    """Return the time that is to be covered: older gaps than are made ahead stay as they are."""
    grid = policy.grid
    current = grid.index(now)
    first = grid.start(current - _BEHIND)
    if state.partitions:
        oldest = min(it.start for it in state.partitions)
        first = max(oldest, grid.start(current - policy.premake))
    if policy.retention is not None:
        first = max(first, grid.floor(policy.retention.before(now)))
    return min(first, grid.start(current)), policy.horizon(now)


def _covered(state: TableState) -> list[Range]:
    return [(it.start, it.end) for it in state.partitions if not it.pending]


def _names(state: TableState) -> frozenset[str]:
    attached = {it.name for it in state.partitions} | {*state.unreadable}
    return state.taken | attached | {it.name for it in state.retired}


def _interrupted(state: TableState) -> Iterator[Step]:
    if state.default is None:
        return
    for span in state.default.promoting:
        reason = "a promotion was interrupted: its CHECK keeps rows of other times out"
        yield Unguard(state.default.name, *span, reason)


def _finalize(state: TableState) -> Iterator[Step]:
    for it in sorted(state.partitions):
        if it.pending:
            reason = "its detach was interrupted: its rows are hidden, and no other can be detached"
            yield Finalize(it.name, it.start, it.end, reason)


def _promotion(policy: Policy, state: TableState, now: datetime) -> Promote | None:
    """Return the step by which the default partition becomes one of a range, if it can."""
    default, grid = state.default, policy.grid
    if default is None or default.rows is None or default.beyond is not None:
        return None
    first, last = default.rows
    if first == BEGINNING:
        return None
    for start, end in gaps([(it.start, it.end) for it in state.partitions]):
        if start <= first and last < min(end, policy.horizon(now)):
            try:
                span = max(start, grid.floor(first)), min(end, grid.start(grid.index(last) + 1))
            except OverflowError:
                # The cell of the first row begins before the year 1.
                return None
            name = partition_name(state.table, span[0], policy.pattern)
            if name not in _names(state):
                reason = "its rows lie in a range that no partition has"
                return Promote(name, *span, reason, default.name)
    return None


def _promoted(state: TableState, step: Promote) -> TableState:
    made = Partition(step.start, step.end, step.partition)
    return replace(state, partitions=(*state.partitions, made), default=Default(step.default))


def _hidden(state: TableState, span: Range) -> bool:
    """Say whether a partition that is being detached still keeps others out of a range."""
    return any(overlaps((it.start, it.end), span) for it in state.partitions if it.pending)


def _behind_rows(state: TableState, span: Range) -> bool:
    """Say whether rows of the default partition are in the way: they have to be moved by hand."""
    default = state.default
    if default is None:
        return False
    before, beyond = default.rows, default.beyond
    return (before is not None and span[0] <= before[1]) or (
        beyond is not None and beyond[0] < span[1]
    )


def _creations(
    policy: Policy, state: TableState, now: datetime, free: list[tuple[str, datetime, datetime]]
) -> Iterator[Step]:
    default = state.default
    span = (free[0][1], free[-1][2]) if free else None
    guard = None
    if default is not None:
        held = default.guard or default.unproved
        guard = held if held is None or span is None or contains(held, span) else None
        if held is not None and guard is None:
            yield Unguard(default.name, *held, "it does not fit what is due now")
        proved = guard is not None and guard == default.guard
        if span is not None and default.filled and not proved:
            guard = guard or span
            reason = "attaching beside rows in the default partition would scan them under lock"
            yield Guard(default.name, *guard, reason)
    for name, start, end in free:
        reason = _why(policy, now, start, end)
        yield Create(name, start, end, reason, beside_default=default is not None)
    if default is not None and guard is not None:
        yield Unguard(default.name, *guard, "the partitions that it was for are attached")


def _why(policy: Policy, now: datetime, start: datetime, end: datetime) -> str:
    if start <= now < end:
        return "no partition takes the rows of now"
    if end <= now:
        return "a gap before now"
    offset = policy.grid.index(start) - policy.grid.index(now)
    return f"ahead: {offset} of {policy.premake}" if offset else "the rest of the current interval"


def _expired(policy: Policy, state: TableState, now: datetime) -> list[str]:
    if policy.retention is None or policy.at_end is AtEnd.KEEP:
        return []
    limit = policy.retention.before(now)
    attached = [
        it.name
        for it in sorted(state.partitions)
        # What was restored from an archive stays until somebody lets it go.
        if it.end <= limit and not it.pending and it.then is not AtEnd.KEEP
    ]
    return attached + [it.name for it in state.retired if it.then is policy.at_end]


def _retirements(policy: Policy, state: TableState, now: datetime) -> Iterator[Step]:
    expired = _expired(policy, state, now)
    for it in sorted(state.partitions):
        if it.name in expired and not it.pending:
            reason = f"ended more than {policy.retention} ago"
            concurrently = state.default is None
            yield Detach(it.name, it.start, it.end, reason, policy.at_end, concurrently)
            yield from _after(policy, it.name, it.start, it.end, archived=False)
        elif it.pending and it.then is policy.at_end:
            yield from _after(policy, it.name, it.start, it.end, archived=False)
    for left in sorted(state.retired):
        if left.name in expired:
            yield from _after(policy, left.name, left.start, left.end, archived=left.archived)


def _after(
    policy: Policy, name: str, start: datetime, end: datetime, *, archived: bool
) -> Iterator[Step]:
    """Yield what becomes of a partition once it is detached."""
    if policy.at_end is AtEnd.ARCHIVE and not archived:
        yield Archive(name, start, end, "nothing is dropped before its archive was read back")
    if policy.at_end in {AtEnd.ARCHIVE, AtEnd.DROP}:
        yield Drop(name, start, end, f"its policy is to {policy.at_end} it", policy.at_end)
