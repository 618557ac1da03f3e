"""What a table's time partitions are to be: how long, how many ahead, and what their end is."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

from tenantry_partitions.encoding import Encoding
from tenantry_schema.errors import InvalidConfig
from tenantry_schema.timing import Grid, Span, format_moment, parse_moment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tenantry_schema.layout import Layout

_MOST_AHEAD = 1000
_LONGEST_NAME = 63
# As many cells as any pattern needs to show that it tells them apart.
_CELLS_TRIED = 400

E = TypeVar("E", bound=StrEnum)


class AtEnd(StrEnum):
    """What becomes of a partition whose retention has passed."""

    KEEP = "keep"
    DETACH = "detach"
    DROP = "drop"
    ARCHIVE = "archive"


@dataclass(frozen=True, slots=True)
class Policy:
    """The policy of one table.

    :ivar control: the column that it is partitioned by
    :ivar interval: how long a partition is
    :ivar premake: how many partitions lie ready beyond the current one
    :ivar retention: how long after its end a partition is kept; None for ever
    :ivar at_end: what becomes of it then
    :ivar encoding: what the control column holds; None for what its type says
    :ivar names: pg_partman's ``datetime_string``; None for pg_partman 5's
    :ivar anchor: where one partition begins, for lengths that have no natural beginning
    :raises InvalidConfig: naming the value, what is wrong with it and what is allowed
    """

    control: str
    interval: Span
    premake: int = 7
    retention: Span | None = None
    at_end: AtEnd = AtEnd.KEEP
    encoding: Encoding | None = None
    names: str | None = None
    anchor: datetime | None = None

    def __post_init__(self) -> None:
        if not self.control or len(self.control.encode()) > _LONGEST_NAME or "\0" in self.control:
            raise InvalidConfig(f"control {self.control!r:.80} is no column's name")
        if type(self.premake) is not int or not 1 <= self.premake <= _MOST_AHEAD:
            raise InvalidConfig(f"premake is 1 to {_MOST_AHEAD} partitions, not {self.premake!r}")
        if self.retention is None and self.at_end is not AtEnd.KEEP:
            raise InvalidConfig(f"at_end {self.at_end} needs a retention, such as '90 days'")
        self._check_retention()
        self._check_names()

    @property
    def grid(self) -> Grid:
        """Where partitions begin and end."""
        return Grid(self.interval, self.anchor)

    @property
    def pattern(self) -> str:
        """How partitions' names say where they begin."""
        return self.names or self.grid.pattern

    def horizon(self, now: datetime) -> datetime:
        """Return the end of the last partition that is to lie ready."""
        return self.grid.start(self.grid.index(now) + self.premake + 1)

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> Policy:
        """Return the policy that texts and numbers mean, as in the catalog or at a table.

        :raises InvalidConfig: also for a key that no policy has, and for a zone other than UTC
        """
        values = {name: value for name, value in given.items() if value is not None}
        zone = values.pop("time_zone", "UTC")
        if zone != "UTC":
            raise InvalidConfig(
                f"time zone {zone!r:.40}: partitions begin and end in UTC always, because a day "
                "that is missing or doubled elsewhere would make gaps and wrong names"
            )
        unknown = sorted(values.keys() - {field.name for field in fields(cls)})
        if unknown or not {"control", "interval"} <= values.keys():
            raise InvalidConfig(
                f"a policy needs control and interval, and knows no {', '.join(unknown) or 'more'}"
            )
        values["interval"] = Span.parse(values["interval"])
        if "retention" in values:
            values["retention"] = Span.parse(values["retention"])
        for name, kind in (("at_end", AtEnd), ("encoding", Encoding)):
            if name in values:
                values[name] = _member(kind, name, values[name])
        anchor = values.get("anchor")
        if anchor is not None and not (isinstance(anchor, datetime) and anchor.tzinfo):
            raise InvalidConfig(f"anchor {anchor!r:.40} must be a moment with a zone")
        return cls(**values)

    def as_row(self) -> dict[str, Any]:
        """Return the policy as :meth:`parse` reads it."""
        row = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: str(value) if isinstance(value, Span | StrEnum) else value
            for name, value in row.items()
        }

    def _check_retention(self) -> None:
        if self.retention is None:
            return
        start = self.grid.start(0)
        if self.retention.after(start) < self.interval.after(start):
            raise InvalidConfig(
                f"retention {self.retention} is shorter than one partition of {self.interval}"
            )

    def _check_names(self) -> None:
        twice = _told_twice(self.grid, self.pattern)
        if twice is not None:
            raise InvalidConfig(
                f"names {self.pattern!r} cannot tell partitions of {self.interval} apart: two "
                f"would be called …_p{twice}"
            )


@lru_cache(maxsize=64)
def _told_twice(grid: Grid, pattern: str) -> str | None:
    """Return a name that a pattern gives to two cells of a grid, or to none."""
    written = [format_moment(pattern, grid.start(index)) for index in range(_CELLS_TRIED)]
    unread = [text for text in written if parse_moment(pattern, text) is None]
    return next((a for a, b in pairwise(written) if a == b), unread[0] if unread else None)


def policies_of(layout: Layout) -> dict[str, Policy]:
    """Return the policies that a service's tables name for themselves, by the table's name.

    :raises InvalidConfig: naming the table
    """
    found = {}
    for rule in layout.bucketed:
        if rule.grid is None:
            continue
        info = dict(rule.table.info["tenantry"])
        try:
            control = info.pop("time")
            found[rule.name] = Policy.parse(
                {"interval": str(rule.grid.span), **info, "control": control}
            )
        except InvalidConfig as error:
            raise InvalidConfig(f"table {rule.name!r}: {error}") from error
    return found


def _member(kind: type[E], name: str, value: object) -> E:
    try:
        return kind(str(value))
    except ValueError as error:
        allowed = ", ".join(kind)
        raise InvalidConfig(f"{name} is one of {allowed}, not {value!r:.40}") from error
