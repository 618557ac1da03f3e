"""What a partitioned table looks like at one moment: values that the planner decides on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from tenantry_partitions.policy import AtEnd


@dataclass(frozen=True, slots=True, order=True)
class Partition:
    """An attached partition: ``[start, end)``.

    :ivar pending: a concurrent detach was begun and not finished; its rows are hidden already
    :ivar used: rows were written to it once
    :ivar then: what was to become of it, if its retirement has begun
    """

    start: datetime
    end: datetime
    name: str
    pending: bool = False
    used: bool = True
    then: AtEnd | None = None


@dataclass(frozen=True, slots=True, order=True)
class Retired:
    """A detached partition that still lies there.

    :ivar then: what it was detached for
    :ivar archived: a verified archive of it has a manifest
    """

    start: datetime
    end: datetime
    name: str
    then: AtEnd
    archived: bool = False


@dataclass(frozen=True, slots=True)
class Default:
    """The default partition of a set that someone else began.

    :ivar rows: the first and the last moment of its rows up to what is to lie ahead, or None
    :ivar beyond: the first and the last moment of its rows of later times, or None
    :ivar guard: the range that its validated guard keeps free
    :ivar unproved: the range of a guard that was added and not validated
    :ivar promoting: the ranges of promotions that were interrupted
    """

    name: str
    rows: tuple[datetime, datetime] | None = None
    beyond: tuple[datetime, datetime] | None = None
    guard: tuple[datetime, datetime] | None = None
    unproved: tuple[datetime, datetime] | None = None
    promoting: tuple[tuple[datetime, datetime], ...] = ()

    @property
    def filled(self) -> bool:
        """Whether it has rows."""
        return self.rows is not None or self.beyond is not None


@dataclass(frozen=True, slots=True)
class TableState:
    """A partitioned table.

    :ivar unreadable: attached partitions whose bounds are no moments
    :ivar taken: names in its schema that belong to something else
    :ivar references: foreign keys from it to other tables, by name
    """

    schema: str
    table: str
    partitions: tuple[Partition, ...] = ()
    retired: tuple[Retired, ...] = ()
    default: Default | None = None
    unreadable: tuple[str, ...] = ()
    taken: frozenset[str] = frozenset()
    references: tuple[str, ...] = ()
