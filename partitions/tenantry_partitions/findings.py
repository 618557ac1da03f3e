"""What is odd about a partitioned table, beyond what is due: pure.

A wrong finding needs a person; a note is for the one who looks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tenantry_partitions.coverage import gaps
from tenantry_partitions.encoding import BEGINNING, END
from tenantry_schema.timing import partition_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from tenantry_partitions.coverage import Range
    from tenantry_partitions.policy import Policy
    from tenantry_partitions.state import TableState


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found.

    :ivar kind: a word that stays the same from release to release
    :ivar remedy: what to do next
    :ivar wrong: whether it needs a person
    """

    kind: str
    problem: str
    remedy: str
    wrong: bool = False


def findings(
    policy: Policy,
    state: TableState,
    now: datetime,
    *,
    squatted: list[tuple[str, datetime, datetime]],
    promoted: bool,
) -> list[Finding]:
    """Return what is odd about a table.

    :param squatted: the partitions that are due and whose names are taken
    :param promoted: whether the plan promotes the default partition
    """
    return [
        *_squatters(squatted),
        *_shapes(policy, state),
        *_pending(state),
        *_default(state, promoted=promoted),
        *_gaps(policy, state, now),
        *_idle(policy, state, now),
        *_references(state),
    ]


def _squatters(squatted: list[tuple[str, datetime, datetime]]) -> Iterator[Finding]:
    for name, start, end in squatted:
        yield Finding(
            "squatter",
            f"{name} is due for {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}, but something else "
            "has that name",
            "rename or drop it, or attach it if its rows belong there",
            wrong=True,
        )


def _shapes(policy: Policy, state: TableState) -> Iterator[Finding]:
    for name in state.unreadable:
        yield Finding(
            "unreadable-bound",
            f"partition {name} has bounds that are no moments",
            "see its bounds with \\d+; it is left alone",
            wrong=True,
        )
    grid = policy.grid
    for it in sorted(state.partitions):
        if it.start == BEGINNING or it.end == END:
            problem = f"partition {it.name} has an open end, which never expires"
            yield Finding("open-end", problem, "give it bounds when its rows are old")
            continue
        if grid.floor(it.start) != it.start or grid.start(grid.index(it.start) + 1) != it.end:
            yield Finding(
                "overlap",
                f"partition {it.name} is not one interval of {policy.interval}: it overlaps cells "
                "of the grid",
                "nothing: what it leaves of a cell is made as a partition of its own",
            )
        expected = partition_name(state.table, it.start, policy.pattern)
        if it.name != expected:
            yield Finding(
                "wrong-name",
                f"partition {it.name} begins at {it.start:%Y-%m-%d %H:%M} and should be {expected}",
                f"ALTER TABLE … RENAME TO {expected}, at a quiet moment, under lock_timeout",
                wrong=True,
            )


def _pending(state: TableState) -> Iterator[Finding]:
    for it in sorted(state.partitions):
        if it.pending:
            yield Finding(
                "pending-detach",
                f"a detach of {it.name} was interrupted: its rows are hidden",
                "run the rollover: it is finished first",
                wrong=True,
            )


def _default(state: TableState, *, promoted: bool) -> Iterator[Finding]:
    if state.default is None:
        return
    yield Finding(
        "default",
        f"{state.default.name} is a default partition: every attachment locks it, and no partition "
        "can be detached concurrently",
        "drop it when it is empty and enough partitions lie ahead",
    )
    if state.default.rows is not None:
        yield Finding(
            "default-rows",
            f"{state.default.name} has rows from {_written(state.default.rows)}",
            "run the rollover: it becomes the partition of that range"
            if promoted
            else "they are not all of one time that no partition has: move them by hand; what is "
            "due behind them is made meanwhile",
            wrong=True,
        )
    if state.default.beyond is not None:
        yield Finding(
            "default-rows",
            f"{state.default.name} has rows from {_written(state.default.beyond)}, later than any "
            "partition that is due",
            "delete or correct them if their time is wrong; what is due before them is made",
            wrong=True,
        )


def _written(span: Range) -> str:
    first, last = (f"{it:%Y-%m-%d %H:%M}" for it in span)
    return f"{first} to {last}"


def _gaps(policy: Policy, state: TableState, now: datetime) -> Iterator[Finding]:
    """Gaps that are too old to be filled without being asked: those beyond what is made ahead."""
    limit = policy.grid.start(policy.grid.index(now) - policy.premake)
    for start, end in gaps([(it.start, it.end) for it in state.partitions]):
        if start != BEGINNING and start < limit and end != END:
            yield Finding(
                "gap",
                f"no partition takes rows from {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}",
                "nothing, if no rows so old are written any more",
            )


def _idle(policy: Policy, state: TableState, now: datetime) -> Iterator[Finding]:
    """Yield a note for a set without new rows, which pg_partman stops extending."""
    grid = policy.grid
    since = grid.start(grid.index(now) - policy.premake)
    used = [it.end for it in state.partitions if it.used]
    if any(it.end <= since for it in state.partitions) and all(end <= since for end in used):
        yield Finding(
            "idle",
            f"no row was written to a partition since {since:%Y-%m-%d %H:%M}",
            "nothing: partitions are made all the same, because the clock decides, not the rows",
        )


def _references(state: TableState) -> Iterator[Finding]:
    for name in state.references:
        yield Finding(
            "foreign-key",
            f"foreign key {name} makes every new partition lock the table that it refers to "
            "against writers",
            "drop it, and let the application or a policy keep the promise",
        )
