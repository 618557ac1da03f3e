"""Compare what users were told with what the databases hold.

Three outcomes, three promises. What was acknowledged is there once, where its tenant lives. What
was reported as failed is nowhere. What is unknown is there once or not at all: looking tells which,
once nothing of the run is in flight.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from tenantry_loadtest.history import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from uuid import UUID

    from tenantry_loadtest.history import History, Write


class Fault(StrEnum):
    """What can be wrong with a write."""

    MISSING = "acknowledged, but not there"
    GHOST = "reported as failed, but there"
    DOUBLED = "there more than once"
    MISPLACED = "not where its tenant lives"
    STRAY = "there, but never begun"
    UNREAD = "acknowledged, but a later read did not find it"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row with an operation key is, or should be."""

    shard: str
    schema: str
    tenant: UUID

    def __str__(self) -> str:
        return f"{self.schema} on {self.shard} for tenant {self.tenant}"


@dataclass(frozen=True, slots=True)
class Finding:
    """One write that is not as it should be."""

    fault: Fault
    key: str
    detail: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """How many writes had which outcome, and every one that contradicts it.

    :ivar committed: of the unknown ones, how many are there
    :ivar absent: of the unknown ones, how many are not
    """

    acknowledged: int
    failed: int
    committed: int
    absent: int
    findings: tuple[Finding, ...]

    @property
    def clean(self) -> bool:
        """Whether every write is as its user was told."""
        return not self.findings

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {"clean": self.clean, **asdict(self)}


def judge(
    history: History, found: Mapping[str, Sequence[Place]], homes: Mapping[UUID, Place]
) -> Verdict:
    """Judge a run.

    :param found: operation key -> every place where a row carries it, in all buckets of all shards
    :param homes: where each of the run's tenants lives
    """
    findings: list[Finding] = []
    for write in history.writes.values():
        findings += _faults(write, found.get(write.key, ()), homes[write.tenant])
    for key in sorted(found.keys() - history.writes.keys()):
        findings.append(Finding(Fault.STRAY, key, _places(found[key])))
    for key in history.unread:
        findings.append(Finding(Fault.UNREAD, key, str(homes[history.writes[key].tenant])))
    unknown = [it for it in history.writes.values() if it.outcome is Outcome.UNKNOWN]
    committed = sum(1 for it in unknown if found.get(it.key))
    return Verdict(
        acknowledged=_count(history, Outcome.ACKNOWLEDGED),
        failed=_count(history, Outcome.FAILED),
        committed=committed,
        absent=len(unknown) - committed,
        findings=tuple(findings),
    )


def _faults(write: Write, places: Sequence[Place], home: Place) -> Iterator[Finding]:
    if write.outcome is Outcome.ACKNOWLEDGED and not places:
        yield Finding(Fault.MISSING, write.key, f"table {write.table}, expected in {home}")
    if write.outcome is Outcome.FAILED and places:
        yield Finding(Fault.GHOST, write.key, f"{_places(places)}; its user saw: {write.reason}")
    if len(places) > 1:
        yield Finding(Fault.DOUBLED, write.key, _places(places))
    if len(places) == 1 and places[0] != home:
        yield Finding(Fault.MISPLACED, write.key, f"{places[0]}, expected in {home}")


def _places(places: Sequence[Place]) -> str:
    return ", ".join(sorted(map(str, places)))


def _count(history: History, outcome: Outcome) -> int:
    return sum(1 for write in history.writes.values() if write.outcome is outcome)
