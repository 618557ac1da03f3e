"""Lengths of time that partitions and their retention are counted in: hours or months, in UTC.

In UTC a day has 24 hours and a week 168, so hours carry everything below a month. The text of a
span is what Postgres prints for the interval, which is also what pg_partman keeps.
"""

from __future__ import annotations

import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import MAXYEAR, MINYEAR, datetime, timedelta

from tenantry_schema.errors import InvalidConfig

_HOURS = {"hour": 1, "day": 24, "week": 168}
_MONTHS = {"mon": 1, "month": 1, "quarter": 3, "year": 12}
# pg_partman 4 takes these words.
_WORDS = {
    "hourly": "1 hour",
    "daily": "1 day",
    "weekly": "1 week",
    "monthly": "1 month",
    "quarterly": "1 quarter",
    "yearly": "1 year",
}
_TERM = re.compile(r"(\d{1,6})\s*([a-z]+?)s?(?:\s+|\Z)")
_CLOCK = re.compile(r"(\d{1,6}):00:00\Z")
_LONGEST_MONTHS, _LONGEST_HOURS = 12 * 1000, 24 * 366 * 1000


@dataclass(frozen=True, slots=True)
class Span:
    """A length of time: whole hours, or whole months.

    :raises InvalidConfig: when it is neither, nothing, or longer than a thousand years
    """

    hours: int = 0
    months: int = 0

    def __post_init__(self) -> None:
        if (self.hours > 0) == (self.months > 0) or min(self.hours, self.months) < 0:
            raise InvalidConfig(
                f"a span is whole hours, days and weeks, or whole months and years, not "
                f"{self.months} months and {self.hours} hours"
            )
        if self.months > _LONGEST_MONTHS or self.hours > _LONGEST_HOURS:
            raise InvalidConfig("a span is at most a thousand years")

    @classmethod
    def parse(cls, text: object) -> Span:
        """Return the span that a text means, such as ``1 week``, ``3 months`` or ``06:00:00``.

        :raises InvalidConfig: naming the text; also for a number without a unit, which Postgres
            would take for seconds
        """
        if not isinstance(text, str):
            raise InvalidConfig(f"a span is a text such as '1 week', not {text!r:.40}")
        given = text.strip().lower()
        given = _WORDS.get(given, given)
        clock = _CLOCK.match(given)
        if clock is not None:
            return cls(hours=int(clock[1]))
        if re.fullmatch(r"[0-9.]+", given):
            raise InvalidConfig(
                f"{text!r:.40} has no unit, and Postgres would take it for seconds: write "
                f"'{given} days', or whatever is meant"
            )
        return cls._summed(text, given)

    @classmethod
    def _summed(cls, text: str, given: str) -> Span:
        hours = months = at = 0
        while at < len(given):
            term = _TERM.match(given, at)
            unit = "" if term is None else term[2]
            if term is None or (unit not in _HOURS and unit not in _MONTHS):
                raise InvalidConfig(
                    f"{text!r:.40} is no span: write a number and one of hour, day, week, month, "
                    "quarter, year"
                )
            hours += int(term[1]) * _HOURS.get(unit, 0)
            months += int(term[1]) * _MONTHS.get(unit, 0)
            at = term.end()
        return cls(hours, months)

    def __str__(self) -> str:
        if self.months:
            years, months = divmod(self.months, 12)
            return " ".join(
                _counted(n, unit) for n, unit in ((years, "year"), (months, "mon")) if n
            )
        if self.hours % 24:
            return f"{self.hours:02d}:00:00"
        return _counted(self.hours // 24, "day")

    def after(self, moment: datetime, times: int = 1) -> datetime:
        """Return the moment that lies so many spans later; a day that a month lacks is its last.

        :raises OverflowError: beyond the years 1 to 9999
        """
        if self.hours:
            return moment + timedelta(hours=self.hours * times)
        count = moment.year * 12 + moment.month - 1 + self.months * times
        year, month = divmod(count, 12)
        if not MINYEAR <= year <= MAXYEAR:
            raise OverflowError(f"year {year} is out of range")
        day = min(moment.day, monthrange(year, month + 1)[1])
        return moment.replace(year=year, month=month + 1, day=day)

    def before(self, moment: datetime) -> datetime:
        """Return the moment that lies one span earlier."""
        return self.after(moment, -1)


def _counted(number: int, unit: str) -> str:
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"
