"""The steps of a rollover: each says what it does, which lock it takes, how it is taken back.

Whom a step may hold up follows from the locks that ``pg_locks`` shows on Postgres 15 for each of
its statements.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from datetime import datetime

    from tenantry_partitions.policy import AtEnd

_NOBODY = "SHARE UPDATE EXCLUSIVE on the table: holds up no reader and no writer"
_DEFAULT = "SHARE UPDATE EXCLUSIVE on the table, ACCESS EXCLUSIVE on its default partition"


@dataclass(frozen=True, slots=True)
class Step:
    """One step, done in transactions of its own.

    :ivar partition: the partition that it makes, changes or takes away
    :ivar reason: why it is due
    :cvar retires: it frees space, which may take long, and no write waits for it
    """

    partition: str
    start: datetime
    end: datetime
    reason: str

    verb: ClassVar[str]
    retires: ClassVar[bool] = False
    reversal: ClassVar[str]

    @property
    def lock(self) -> str:
        """The strongest lock that it takes, and whom that may hold up."""
        raise NotImplementedError

    def as_row(self) -> dict[str, Any]:
        """Return the step for people and programs."""
        return {
            "step": self.verb,
            "partition": self.partition,
            "from": self.start,
            "to": self.end,
            "lock": self.lock,
            "reversal": self.reversal,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class Create(Step):
    """Make a partition like its table, and attach it.

    :ivar beside_default: the set has a default partition
    """

    beside_default: bool = False

    verb: ClassVar[str] = "create"
    reversal: ClassVar[str] = "detach and drop it while it is empty"

    @property
    def lock(self) -> str:
        """The strongest lock that it takes."""
        return _DEFAULT if self.beside_default else _NOBODY


@dataclass(frozen=True, slots=True)
class Finalize(Step):
    """Complete a concurrent detach that was interrupted."""

    verb: ClassVar[str] = "finalize"
    retires: ClassVar[bool] = True
    reversal: ClassVar[str] = "attach it again: its bound has stayed as a CHECK"

    @property
    def lock(self) -> str:
        """The strongest lock that it takes."""
        return f"{_NOBODY}; ACCESS EXCLUSIVE on the hidden partition"


@dataclass(frozen=True, slots=True)
class Detach(Step):
    """Take a partition out of its table.

    :ivar then: what is to become of it
    :ivar concurrently: False beside a default partition, where Postgres refuses it
    """

    then: AtEnd
    concurrently: bool = True

    verb: ClassVar[str] = "detach"
    retires: ClassVar[bool] = True
    reversal: ClassVar[str] = "attach it again: its bound has stayed as a CHECK"

    @property
    def lock(self) -> str:
        """The strongest lock that it takes."""
        if self.concurrently:
            return f"{_NOBODY}; ACCESS EXCLUSIVE on the partition when nobody uses the table"
        return "ACCESS EXCLUSIVE on the table, the partition and the default partition"


@dataclass(frozen=True, slots=True)
class Archive(Step):
    """Write a detached partition to the archive, and read it back."""

    verb: ClassVar[str] = "archive"
    retires: ClassVar[bool] = True
    reversal: ClassVar[str] = "nothing to take back: the partition is still there"

    @property
    def lock(self) -> str:
        """The strongest lock that it takes."""
        return "ACCESS SHARE on the detached partition: holds up no reader and no writer"


@dataclass(frozen=True, slots=True)
class Drop(Step):
    """Drop a detached partition."""

    then: AtEnd

    verb: ClassVar[str] = "drop"
    retires: ClassVar[bool] = True

    @property
    def reversal(self) -> str:  # type: ignore[override]  # of an archive it is another
        """How it is taken back."""
        restored = "`tenantry partitions archive restore`"
        return restored if self.then == "archive" else "none: its rows are gone"

    @property
    def lock(self) -> str:
        """The strongest lock that it takes."""
        return "ACCESS EXCLUSIVE on the detached partition, which no statement reaches"


@dataclass(frozen=True, slots=True)
class Guard(Step):
    """Prove that the default partition holds no row of a range, before the range is attached.

    Without it every attachment scans the default partition under ACCESS EXCLUSIVE.
    """

    verb: ClassVar[str] = "guard"
    reversal: ClassVar[str] = "drop the constraint"

    @property
    def lock(self) -> str:
        """The strongest lock that it takes."""
        return (
            "ACCESS EXCLUSIVE on the default partition to add the CHECK, without a scan; "
            "SHARE UPDATE EXCLUSIVE for the scan"
        )


@dataclass(frozen=True, slots=True)
class Unguard(Step):
    """Take a guard away, or what an interrupted promotion left."""

    verb: ClassVar[str] = "unguard"
    reversal: ClassVar[str] = "guard it again"

    @property
    def lock(self) -> str:
        """The strongest lock that it takes."""
        return "ACCESS EXCLUSIVE on the default partition, without a scan"


@dataclass(frozen=True, slots=True)
class Promote(Step):
    """Make the default partition the partition of the range that its rows lie in.

    No row is copied, and none is hidden at any moment: a new, empty default takes its place.

    :ivar default: the name of the default partition
    """

    default: str

    verb: ClassVar[str] = "promote"
    reversal: ClassVar[str] = "detach both, rename, attach the old default again: no rows move"

    @property
    def lock(self) -> str:
        """The strongest lock that it takes."""
        return "ACCESS EXCLUSIVE on the table and its default partition, without a scan"
