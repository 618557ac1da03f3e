"""Ranges of time, each without its end, and what they leave uncovered: pure."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, TypeAlias

from tenantry_partitions.encoding import BEGINNING, END

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tenantry_schema.timing import Grid

Range: TypeAlias = tuple[datetime, datetime]


def overlaps(one: Range, other: Range) -> bool:
    """Say whether two ranges share a moment."""
    return one[0] < other[1] and other[0] < one[1]


def contains(outer: Range, inner: Range) -> bool:
    """Say whether a range lies in another one."""
    return outer[0] <= inner[0] and inner[1] <= outer[1]


def gaps(covered: Sequence[Range]) -> Iterator[Range]:
    """Yield every range that is not covered, in order, from the beginning to the end of time."""
    reached = BEGINNING
    for start, end in sorted(covered):
        if start > reached:
            yield reached, start
        reached = max(reached, end)
    if reached < END:
        yield reached, END


def uncovered(grid: Grid, wanted: Range, covered: Sequence[Range]) -> list[Range]:
    """Return what of a wanted range is not covered, cut where the grid's cells begin."""
    pieces = []
    for start, end in gaps(covered):
        at, limit = max(start, wanted[0]), min(end, wanted[1])
        while at < limit:
            reached = min(grid.start(grid.index(at) + 1), limit)
            pieces.append((at, reached))
            at = reached
    return pieces
