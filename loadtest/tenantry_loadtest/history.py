"""What a load run did, as far as its users were told: the record that a judge reads.

One JSON object a line, appended as it happens. A write is noted before it is sent, and again when
its outcome is known. So a run that was killed in between leaves a write of unknown outcome, never
one that nobody has heard of.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, TypeAlias
from uuid import UUID

from tenantry_schema.errors import InvalidConfig

Line: TypeAlias = Mapping[str, Any]


class Outcome(StrEnum):
    """What a user was told of a write."""

    ACKNOWLEDGED = "acknowledged"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Seat:
    """A tenant that a run made for itself, and the tenant's first agent."""

    name: str
    key: UUID
    agent: UUID


@dataclass(frozen=True, slots=True)
class Run:
    """One load run.

    :ivar name: the beginning of every operation key of the run, and its ``application_name``
    :ivar seed: what its users do follows from it
    """

    name: str
    seed: int
    seats: tuple[Seat, ...]


@dataclass(frozen=True, slots=True)
class Write:
    """One row that a user asked for.

    :ivar key: the operation key, which the row carries
    :ivar reason: why it failed, or why its outcome is not known
    """

    key: str
    table: str
    tenant: UUID
    outcome: Outcome = Outcome.UNKNOWN
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class History:
    """A run's record.

    :ivar writes: by operation key, in the order in which they were begun
    :ivar unread: keys of writes that a later read of the same user did not find
    """

    run: Run
    writes: Mapping[str, Write]
    unread: tuple[str, ...]


def run_line(run: Run) -> Line:
    """Return the first line of a record."""
    seats = [[seat.name, str(seat.key), str(seat.agent)] for seat in run.seats]
    return {"event": "run", "run": run.name, "seed": run.seed, "seats": seats}


def begin_line(write: Write) -> Line:
    """Return the line of a write that is about to be sent."""
    return {"event": "begin", "key": write.key, "table": write.table, "tenant": str(write.tenant)}


def end_line(key: str, outcome: Outcome, reason: str | None) -> Line:
    """Return the line of a write's outcome."""
    return {"event": "end", "key": key, "outcome": outcome, "reason": reason}


def unread_line(key: str) -> Line:
    """Return the line of an acknowledged write that was not read back."""
    return {"event": "unread", "key": key}


def parse_run(line: Line) -> Run:
    """Read what :func:`run_line` made."""
    seats = (Seat(name, UUID(key), UUID(agent)) for name, key, agent in line["seats"])
    return Run(line["run"], line["seed"], tuple(seats))


def parse_history(text: str) -> History:
    """Read a record; a last line that was cut off by a kill is left out.

    :raises InvalidConfig: naming the line that cannot be
    """
    # What follows the last line's end was cut off: its write is of unknown outcome, or not begun.
    lines = text.split("\n")[:-1]
    if not lines:
        raise InvalidConfig("the record is empty: the run ended before it began")
    try:
        run = parse_run(json.loads(lines[0]))
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidConfig(f"line 1 of the record describes no run: {error!r}") from error
    return _replay(run, lines[1:])


def _replay(run: Run, lines: Iterable[str]) -> History:
    tenants = {seat.key for seat in run.seats}
    writes: dict[str, Write] = {}
    unread: list[str] = []
    for number, line in enumerate(lines, start=2):
        try:
            _take(json.loads(line), tenants, writes, unread)
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidConfig(
                f"line {number} of the record cannot be: {error!r} in {line[:80]!r}"
            ) from error
    return History(run, writes, tuple(unread))


def _take(line: Line, tenants: set[UUID], writes: dict[str, Write], unread: list[str]) -> None:
    event, key = line["event"], line["key"]
    if event == "begin":
        tenant = UUID(line["tenant"])
        if tenant not in tenants:
            raise ValueError(f"{tenant} is no tenant of the run")
        writes[key] = Write(key, line["table"], tenant)
    elif event == "end":
        outcome = Outcome(line["outcome"])
        writes[key] = replace(writes[key], outcome=outcome, reason=line["reason"])
    elif event == "unread":
        unread.append(writes[key].key)
    else:
        raise ValueError(f"no event is called {event!r:.40}")
