"""Plan and roll over the tables of one database: what fails for one table stops no other."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from psycopg import sql

from tenantry_partitions.executor import Executor, Outcome
from tenantry_partitions.inspect import Inspected, inspect
from tenantry_partitions.planner import Plan, plan
from tenantry_partitions.session import database_time
from tenantry_schema.errors import ArchiveMismatch, LockNotGranted, RolloverFailed, UnsuitableTable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import psycopg

    from tenantry_partitions.archive.archiver import Archiver
    from tenantry_partitions.budget import Budget
    from tenantry_partitions.findings import Finding
    from tenantry_partitions.inspect import Target
    from tenantry_partitions.policy import Policy


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


def plan_tables(
    conn: psycopg.Connection[Any], policies: Mapping[Target, Policy], *, archiving: bool = False
) -> dict[Target, Plan | UnsuitableTable]:
    """Return what is due for each table, or why it cannot be kept in time partitions."""
    now = database_time(conn)
    return {
        target: it
        if isinstance(it, UnsuitableTable)
        else plan(it.policy, it.state, now, archiving=archiving)
        for target, it in inspect(conn, policies).items()
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

    :param conn: a session of :func:`~tenantry_partitions.session.maintenance`
    :param archiver: what archives partitions; without it those that should be archived wait
    :param progress: told of every table that is done
    """
    done: dict[Target, _Done] = {}
    before = inspect(conn, policies)
    for target in policies:
        found = before[target]
        done[target] = _Done()
        if isinstance(found, UnsuitableTable):
            done[target].error = str(found)
        else:
            _one(conn, found, budget, archiver, done[target])
        progress(target)
    after = plan_tables(conn, policies, archiving=archiver is not None)
    return [_report(target, policies[target], done[target], after[target]) for target in policies]


def _one(
    conn: psycopg.Connection[Any],
    table: Inspected,
    budget: Budget,
    archiver: Archiver | None,
    done: _Done,
) -> None:
    executor = Executor(conn, table, budget, archiver)
    archiving = archiver is not None
    try:
        for step in plan(table.policy, table.state, database_time(conn), archiving=archiving).steps:
            done.outcomes.append(executor.run(step))
    except (RolloverFailed, LockNotGranted, ArchiveMismatch) as error:
        done.moved = not _is_there(conn, table)
        done.error = None if done.moved else str(error)


def _is_there(conn: psycopg.Connection[Any], table: Inspected) -> bool:
    name = sql.Identifier(table.state.schema, table.state.table).as_string(None)
    return conn.execute("SELECT to_regclass(%s) = %s", (name, table.oid)).fetchone() == (True,)


def _report(
    target: Target, policy: Policy, done: _Done, after: Plan | UnsuitableTable
) -> TableReport:
    seen = after if isinstance(after, Plan) else None
    return TableReport(
        *target,
        policy.premake,
        tuple(done.outcomes),
        () if seen is None else seen.findings,
        None if seen is None else seen.ahead,
        done.error,
        done.moved,
    )
