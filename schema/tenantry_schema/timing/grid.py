"""The grid that partitions of one length lie on: cell ``i`` begins ``i`` spans after an origin."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tenantry_schema.errors import InvalidConfig
from tenantry_schema.timing.names import DAILY, HOURLY

if TYPE_CHECKING:
    from tenantry_schema.timing.span import Span

#: A Monday, at midnight, so that weeks are ISO weeks; and the first of a year.
_MONDAY, _NEW_YEAR = datetime(2000, 1, 3, tzinfo=UTC), datetime(2000, 1, 1, tzinfo=UTC)
_DAY, _WEEK, _YEAR = 24, 168, 12
_LAST_SAFE_DAY = 28


@dataclass(frozen=True, slots=True)
class Grid:
    """Cells of one length, without gaps.

    :ivar anchor: where one cell begins, for sets that others began on a day of their own; None for
        hours that divide a day, days, ISO weeks from Monday, and months that divide a year
    :raises InvalidConfig: when cells of this length have no natural beginning and no anchor
    """

    span: Span
    anchor: datetime | None = None

    def __post_init__(self) -> None:
        span = self.span
        if self.anchor is not None:
            if span.months and self.anchor.day > _LAST_SAFE_DAY:
                raise InvalidConfig(
                    f"months cannot begin on day {self.anchor.day}: not every month has it"
                )
            return
        natural = _YEAR % span.months == 0 if span.months else _divides(span.hours)
        if not natural:
            raise InvalidConfig(
                f"partitions of {span} have no natural beginning: use hours that divide a day, "
                "1 day, 1 week, or months that divide a year"
            )

    @property
    def origin(self) -> datetime:
        """Where cell 0 begins."""
        return self.anchor or (_NEW_YEAR if self.span.months else _MONDAY)

    @property
    def pattern(self) -> str:
        """How pg_partman 5 writes where a cell begins."""
        return DAILY if self.span.months or self.span.hours % _DAY == 0 else HOURLY

    def start(self, index: int) -> datetime:
        """Return where a cell begins.

        :raises OverflowError: beyond the years 1 to 9999
        """
        return self.span.after(self.origin, index)

    def index(self, moment: datetime) -> int:
        """Return the cell that a moment lies in."""
        origin = self.origin
        if self.span.hours:
            return (moment - origin) // (self.span.after(origin) - origin)
        months = (moment.year - origin.year) * 12 + moment.month - origin.month
        found = months // self.span.months
        return found if self.start(found) <= moment else found - 1

    def floor(self, moment: datetime) -> datetime:
        """Return where the cell begins that a moment lies in."""
        return self.start(self.index(moment))


def _divides(hours: int) -> bool:
    return hours in {_DAY, _WEEK} or (hours < _DAY and _DAY % hours == 0)
