"""Plan and roll over the tables of one database: what fails for one table stops no other."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from psycopg import sql

from tenantry_partitions.executor import Executor, Outcome
from tenantry_partitions.inspect import Inspected, inspect
from tenantry_partitions.planner import Plan, plan
from tenantry_partitions.session import database_time
from tenantry_schema.errors import ArchiveMismatch, LockNotGranted, RolloverFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import psycopg

    from tenantry_partitions.archive.archiver import Archiver
    from tenantry_partitions.budget import Budget
    from tenantry_partitions.findings import Finding
    from tenantry_partitions.inspect import Refusal, Target
    from tenantry_partitions.policy import Policy
    from tenantry_partitions.steps import Step


@dataclass(frozen=True, slots=True)
class TableReport:
    """What was found at a table, and what was done.

    :ivar outcomes: the steps that were done
    :ivar ahead: how many partitions lie ready now; None where it could not be seen
    :ivar error: why the rollover of the table was not completed, or None
    :ivar moved: the table is not here any more, because its bucket has moved away meanwhile
    """

    schema: str
    table: str
    premake: int
    outcomes: tuple[Outcome, ...] = ()
    findings: tuple[Finding, ...] = ()
    ahead: int | None = None
    error: str | None = None
    moved: bool = False

    @property
    def stall_ms(self) -> float:
        """The longest stall that any step could have caused."""
        return max((it.stall_ms for it in self.outcomes), default=0.0)

    def as_row(self) -> dict[str, Any]:
        """Return the report for people and programs."""
        return {
            "schema": self.schema,
            "table": self.table,
            "ahead": self.ahead,
            "premake": self.premake,
            "steps": [it.as_row() for it in self.outcomes],
            "stall_ms": round(self.stall_ms, 1),
            "findings": [asdict(it) for it in self.findings],
            "error": self.error,
            "moved": self.moved,
        }


@dataclass(slots=True)
class _Done:
    outcomes: list[Outcome] = field(default_factory=list)
    error: str | None = None
    moved: bool = False
    executor: Executor | None = None
    left: list[Step] = field(default_factory=list)


def plan_tables(
    conn: psycopg.Connection[Any], policies: Mapping[Target, Policy], *, archiving: bool = False
) -> dict[Target, Plan | Refusal]:
    """Return what is due for each table, or why it cannot be kept in time partitions."""
    seen, now = inspect(conn, policies), database_time(conn)
    return {
        target: plan(it.policy, it.state, now, archiving=archiving)
        if isinstance(it, Inspected)
        else it
        for target, it in seen.items()
    }


def roll_over(
    conn: psycopg.Connection[Any],
    policies: Mapping[Target, Policy],
    budget: Budget,
    *,
    archiver: Archiver | None = None,
    progress: Callable[[Target], None] = lambda _: None,
) -> list[TableReport]:
    """Do what is due for each table; return what became of it, in the order of the policies.

    What writes need is made for every table before anything is retired: an archive that is slow
    keeps no table from its next partition.

    :param conn: a session of :func:`~tenantry_partitions.session.maintenance`
    :param archiver: what archives partitions; without it those that should be archived wait
    :param progress: told of every table that is done
    """
    done: dict[Target, _Done] = {}
    before = inspect(conn, policies)
    for target in policies:
        done[target] = _make(conn, before[target], budget, archiver)
        if not done[target].left:
            progress(target)
    for target, it in done.items():
        if it.left:
            _retire(conn, before[target], it)
            progress(target)
    after = plan_tables(conn, policies, archiving=archiver is not None)
    return [_report(target, policies[target], done[target], after[target]) for target in policies]


def _make(
    conn: psycopg.Connection[Any],
    table: Inspected | Refusal,
    budget: Budget,
    archiver: Archiver | None,
) -> _Done:
    """Do what writes need; what retires partitions is left."""
    if not isinstance(table, Inspected):
        return _Done(error=str(table))
    executor = Executor(conn, table, budget, archiver)
    archiving = archiver is not None
    due = plan(table.policy, table.state, database_time(conn), archiving=archiving).steps
    done = _Done(executor=executor)
    _run(conn, table, done, [it for it in due if not it.retires])
    if done.error is None and not done.moved:
        done.left = [it for it in due if it.retires]
    return done


def _retire(conn: psycopg.Connection[Any], table: Inspected | Refusal, done: _Done) -> None:
    assert isinstance(table, Inspected)
    _run(conn, table, done, done.left)


def _run(
    conn: psycopg.Connection[Any], table: Inspected, done: _Done, steps: Sequence[Step]
) -> None:
    assert done.executor is not None
    try:
        for step in steps:
            done.outcomes.append(done.executor.run(step))
    except (RolloverFailed, LockNotGranted, ArchiveMismatch) as error:
        done.moved = not _is_there(conn, table)
        done.error = None if done.moved else str(error)


def _is_there(conn: psycopg.Connection[Any], table: Inspected) -> bool:
    name = sql.Identifier(table.state.schema, table.state.table).as_string(None)
    return conn.execute("SELECT to_regclass(%s) = %s", (name, table.oid)).fetchone() == (True,)


def _report(target: Target, policy: Policy, done: _Done, after: Plan | Refusal) -> TableReport:
    seen = after if isinstance(after, Plan) else None
    # Without a last look nobody knows the lead.
    unseen = str(after) if isinstance(after, RolloverFailed) else None
    return TableReport(
        *target,
        policy.premake,
        tuple(done.outcomes),
        () if seen is None else seen.findings,
        None if seen is None else seen.ahead,
        done.error or unseen,
        done.moved,
    )
