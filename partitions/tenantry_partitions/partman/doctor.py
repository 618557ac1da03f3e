"""What pg_partman does not say: what fails, or stops making partitions, in silence. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tenantry_partitions.findings import Finding
from tenantry_schema.errors import InvalidConfig
from tenantry_schema.timing import Span, parse_moment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tenantry_partitions.partman.config import PartmanSet
    from tenantry_partitions.planner import Plan
    from tenantry_partitions.state import TableState

_BOUNDS_DECIDE = 5
# What our planner finds and pg_partman meets without a word, or with an error for every set.
_TOLD = {
    "squatter": "pg_partman skips that partition without a word",
    "wrong-name": "a maintenance in another time zone misnames partitions, and leaves gaps",
    "gap": "pg_partman never goes back to it",
    "pending-detach": "its rows are hidden",
    "default-rows": "when a partition for them is due, maintenance fails for every set",
    "foreign-key": "each new partition locks the other table against writers",
}


@dataclass(frozen=True, slots=True)
class SetFacts:
    """What is known of a set.

    :ivar major: pg_partman's major version
    :ivar state: the table as it is, or None when it could not be read
    :ivar plan: what tenantry would do by the set's own configuration, or None
    :ivar indexed: an index begins with the control column
    :ivar problem: why there is no state or plan
    """

    given: PartmanSet
    major: int
    state: TableState | None
    plan: Plan | None
    indexed: bool = True
    problem: str | None = None


def examine(facts: SetFacts) -> list[Finding]:
    """Return what is wrong with a set, or will be."""
    return [
        *_configuration(facts),
        *_retention(facts.given),
        *_names(facts),
        *_running_out(facts),
        *_seen(facts),
    ]


def _configuration(facts: SetFacts) -> Iterator[Finding]:
    given = facts.given
    if facts.problem is not None:
        yield Finding("unreadable", facts.problem, "see part_config", wrong=True)
    if given.datetime_string is None:
        yield Finding(
            "no-datetime-string",
            "datetime_string is NULL: the next maintenance fails",
            "set it to the pattern of the partitions' names, such as YYYYMMDD",
            wrong=True,
        )
    if given.automatic_maintenance != "on":
        yield Finding(
            "not-automatic",
            f"automatic_maintenance is {given.automatic_maintenance!r}: maintenance of all sets "
            "passes it by",
            "nothing, if tenantry or a call of its own maintains it",
        )
    if given.undo_in_progress:
        yield Finding(
            "undo", "an undo was begun: maintenance passes it by", "finish it", wrong=True
        )
    if not given.ignore_default_data and facts.major >= _BOUNDS_DECIDE:
        yield Finding(
            "default-data",
            "ignore_default_data is false, as sets have it that come from version 4: rows in the "
            "default partition decide which partitions are made",
            "set it to true",
        )
    if not facts.indexed:
        yield Finding(
            "no-index",
            f"no index begins with {given.control!r}: each maintenance reads the newest partition",
            "index it, or set infinite_time_partitions (version 4)",
        )


def _retention(given: PartmanSet) -> Iterator[Finding]:
    if given.retention is None:
        return
    try:
        Span.parse(given.retention)
    except InvalidConfig as error:
        yield Finding(
            "retention", f"retention: {error}", "write a number and a unit, at once", wrong=True
        )


def _names(facts: SetFacts) -> Iterator[Finding]:
    pattern = facts.given.datetime_string
    if pattern is None or facts.state is None:
        return
    if facts.major >= _BOUNDS_DECIDE:
        if "IW" in pattern or "Q" in pattern:
            yield Finding(
                "old-pattern",
                f"names of {pattern!r} are refused by version 5: maintenance fails",
                "give the set to tenantry, or rename partitions and pattern",
                wrong=True,
            )
        return
    for it in facts.state.partitions:
        if parse_moment(pattern, it.name.rpartition("_p")[2]) is None:
            yield Finding(
                "unparsable-name",
                f"version 4 finds its way by names, and {it.name} is none of {pattern!r}: "
                "maintenance of the set fails",
                "rename it, or detach it",
                wrong=True,
            )


def _running_out(facts: SetFacts) -> Iterator[Finding]:
    if facts.plan is None:
        return
    # pg_partman rounds: one less than its premake is as it should be.
    if facts.plan.ahead < facts.given.premake - 1:
        idle = not facts.given.infinite_time_partitions
        yield Finding(
            "running-out",
            f"{max(facts.plan.ahead, 0)} of {facts.given.premake} partitions lie ahead"
            + (": without new rows pg_partman makes none" if idle else ""),
            "run maintenance"
            + ("; set infinite_time_partitions to true, or give it to tenantry" if idle else ""),
            wrong=True,
        )


def _seen(facts: SetFacts) -> Iterator[Finding]:
    for it in facts.plan.findings if facts.plan is not None else ():
        if it.kind in _TOLD:
            problem = f"{it.problem}; {_TOLD[it.kind]}"
            yield Finding(it.kind, problem, it.remedy, wrong=True)
