"""When a schedule fires: cron in a time zone, or an interval; and what was missed. Pure.

Cron is wall-clock time. Where clocks are put forward, a fixed time that does not exist fires when
the gap ends; where they are put back, a time that comes twice fires at the first. Expressions whose
hour is ``*`` or ``*/n`` mean elapsed time: they skip what does not exist, and fire in both of the
hours that have one name (cron(8) of Debian decides the same way).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from croniter import croniter

from tenantry_schema.errors import InvalidSchedule

if TYPE_CHECKING:
    from collections.abc import Iterator

MISFIRE = ("skip", "once", "all")
#: Fires of one schedule that one transaction makes.
LARGEST_CATCH_UP = 100

# No zone has ever changed its clocks by more than a day.
_NEAR = timedelta(hours=25)
_FIELD = re.compile(r"[0-9A-Za-z*/,#-]+\Z")
# croniter's own words for random and hashed times: two schedulers would not agree on them.
_RANDOM = re.compile(r"(?:^|[,/ -])[RrHh](?:[(,/ -]|$)")
_ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


@dataclass(frozen=True, slots=True)
class Rhythm:
    """When something fires: by ``cron`` in a zone, or ``every`` so often.

    :raises InvalidSchedule: naming what is wrong
    """

    cron: str | None
    every: timedelta | None
    time_zone: str = "UTC"

    def __post_init__(self) -> None:
        if (self.cron is None) == (self.every is None):
            raise InvalidSchedule("give exactly one of cron= and every=")
        if self.every is not None and not timedelta(seconds=1) <= self.every:
            raise InvalidSchedule(f"every= takes at least one second, not {self.every}")
        zone(self.time_zone)
        if self.cron is not None:
            fields(self.cron)

    def after(self, moment: datetime, *, anchor: datetime) -> datetime:
        """Return the first fire after a moment, in UTC.

        :param anchor: a moment at which an interval fires: its others are whole intervals away
        :raises InvalidSchedule: when there is none, such as on 30 February
        """
        if self.every is not None:
            return anchor + self.every * ((moment - anchor) // self.every + 1)
        assert self.cron is not None
        return _following(fields(self.cron), zone(self.time_zone), moment)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a due schedule has to do.

    :ivar fires: for which moments a task is made
    :ivar next_fire: when it is due again; not after now when more is to be caught up
    """

    fires: tuple[datetime, ...]
    next_fire: datetime


def catch_up(
    rhythm: Rhythm, due: datetime, now: datetime, *, misfire: str, grace: timedelta
) -> Plan:
    """Decide what a schedule that is due makes.

    :param due: the moment that it waited for
    :param misfire: ``once`` makes one task for all that is due, for the first moment; ``all`` one
        for each moment, at most 100 at a time; ``skip``, too, but none for moments that were missed
        by more than ``grace``
    """
    if misfire == "once":
        return Plan((due,), rhythm.after(now, anchor=due))
    first = due
    if misfire == "skip" and due < now - grace:
        first = rhythm.after(now - grace, anchor=due)
    fires: list[datetime] = []
    while first <= now and len(fires) < LARGEST_CATCH_UP:
        fires.append(first)
        first = rhythm.after(first, anchor=due)
    return Plan(tuple(fires), first)


@lru_cache(maxsize=512)
def fields(cron: str) -> str:
    """Return a cron expression of five fields.

    :raises InvalidSchedule: for anything else
    """
    text = _ALIASES.get(cron, cron)
    parts = text.split()
    plain = len(parts) == 5 and all(_FIELD.match(part) for part in parts)
    if not plain or _RANDOM.search(text) or not croniter.is_valid(text):
        raise InvalidSchedule(
            f"cron= takes five fields (minute hour day month weekday) or one of "
            f"{', '.join(sorted(_ALIASES))}, not {cron!r:.60}"
        )
    return " ".join(parts)


@lru_cache(maxsize=512)
def zone(name: str) -> ZoneInfo:
    """Return a time zone by its IANA name.

    :raises InvalidSchedule: when there is none
    """
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise InvalidSchedule(
            f"time_zone= takes an IANA name such as 'Europe/Vienna', not {name!r:.60}"
        ) from error


def _following(cron: str, where: ZoneInfo, moment: datetime) -> datetime:
    wall = moment.astimezone(where).replace(tzinfo=None, fold=0)
    simple = next(_walls(cron, wall)).replace(tzinfo=where).astimezone(UTC)
    if _steady(where, moment - _NEAR, simple + _NEAR):
        return simple
    # Near a change of the clocks the order of walls is not that of moments: look at all around.
    best: datetime | None = None
    for candidate in _walls(cron, wall - _NEAR):
        if best is not None and candidate > best.astimezone(where).replace(tzinfo=None) + _NEAR:
            return best
        for at in _moments(cron, candidate, where):
            if at > moment and (best is None or at < best):
                best = at
    raise AssertionError("walls never end")  # pragma: no cover


def _walls(cron: str, after: datetime) -> Iterator[datetime]:
    """Yield the wall-clock times of an expression, later than a naive one, without end."""
    times = croniter(cron, after, max_years_between_matches=10)
    try:
        while True:
            yield times.get_next(datetime)
    except ValueError as error:  # croniter's errors are ValueErrors
        raise InvalidSchedule(
            f"cron {cron!r} does not fire in the ten years after {after:%Y-%m-%d}"
        ) from error


def _moments(cron: str, wall: datetime, where: ZoneInfo) -> list[datetime]:
    """Return the moments in UTC that a wall-clock time stands for."""
    first, second = (wall.replace(tzinfo=where, fold=fold).astimezone(UTC) for fold in (0, 1))
    elapsed = cron.split()[1].startswith("*")
    if first == second:
        return [first]
    if first > second:
        # It does not exist: read with the offset before the gap it lies as far behind the gap's
        # end as it lay behind its beginning; the gap ends where the walls jump.
        return [] if elapsed else [_gap_end(where, second, first)]
    return [first, second] if elapsed else [first]


def _gap_end(where: ZoneInfo, low: datetime, high: datetime) -> datetime:
    """Return the first moment with the new offset, by halving."""
    new = high.astimezone(where).utcoffset()
    while high - low > timedelta(seconds=1):
        middle = low + (high - low) // 2
        if middle.astimezone(where).utcoffset() == new:
            high = middle
        else:
            low = middle
    return high.replace(microsecond=0)


def _steady(where: ZoneInfo, begin: datetime, end: datetime) -> bool:
    """Say whether the clocks are not changed near the beginning, nor near the end."""
    return all(
        at.astimezone(where).utcoffset() == (at + 2 * _NEAR).astimezone(where).utcoffset()
        for at in (begin, end - 2 * _NEAR)
    )
