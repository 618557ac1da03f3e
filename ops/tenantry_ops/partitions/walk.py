"""Walk over databases, some at once: what fails in one stops no other.

In one database tables are done one after another, on one connection, which holds pg_partman's lock.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg

from tenantry_partitions.planner import Plan
from tenantry_partitions.rollover import plan_tables, roll_over
from tenantry_partitions.session import connect, maintenance
from tenantry_schema.errors import TenantryError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tenantry_ops.partitions.places import Database
    from tenantry_partitions.archive import Archiver
    from tenantry_partitions.budget import Budget
    from tenantry_partitions.inspect import Refusal, Target
    from tenantry_partitions.rollover import TableReport

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class DatabasePlan:
    """What is due in a database, or why it could not be seen."""

    name: str
    tables: dict[Target, Plan | Refusal]
    error: str | None = None

    @property
    def clean(self) -> bool:
        """Whether nothing is due and nothing is wrong."""
        return self.error is None and all(
            isinstance(it, Plan) and it.clean for it in self.tables.values()
        )


@dataclass(frozen=True, slots=True)
class DatabaseReport:
    """What was done in a database, or why nothing could be."""

    name: str
    tables: Sequence[TableReport]
    error: str | None = None

    @property
    def failed(self) -> bool:
        """Whether anything was not completed."""
        return self.error is not None or any(it.error is not None for it in self.tables)


def plan_all(
    databases: Sequence[Database], budget: Budget, *, jobs: int, archiving: bool = False
) -> list[DatabasePlan]:
    """Return what is due in each database; nothing is changed."""

    def one(database: Database) -> DatabasePlan:
        with connect(database.conninfo, budget) as conn:
            found = plan_tables(conn, database.policies(conn), archiving=archiving)
            return DatabasePlan(database.name, found)

    return _each(databases, one, lambda name, error: DatabasePlan(name, {}, error), jobs)


def roll_over_all(
    databases: Sequence[Database],
    budget: Budget,
    *,
    jobs: int,
    archiver: Archiver | None = None,
    progress: Callable[[str, Target], None] = lambda *_: None,
) -> list[DatabaseReport]:
    """Do what is due in each database.

    :param jobs: how many databases at once
    :param progress: told of every table that is done
    """

    def one(database: Database) -> DatabaseReport:
        with maintenance(database.conninfo, budget) as conn:
            done = roll_over(
                conn,
                database.policies(conn),
                budget,
                archiver=archiver,
                progress=lambda target: progress(database.name, target),
            )
            return DatabaseReport(database.name, done)

    return _each(databases, one, lambda name, error: DatabaseReport(name, (), error), jobs)


def _each(
    databases: Sequence[Database],
    one: Callable[[Database], R],
    failed: Callable[[str, str], R],
    jobs: int,
) -> list[R]:
    def attempt(database: Database) -> R:
        try:
            return one(database)
        except (TenantryError, psycopg.Error) as error:
            return failed(database.name, _said(error))

    with ThreadPoolExecutor(max(1, min(jobs, len(databases) or 1))) as pool:
        return list(pool.map(attempt, databases))


def _said(error: Exception) -> str:
    state: Any = getattr(error, "sqlstate", None)
    return f"{str(error).strip()}{f' (SQLSTATE {state})' if state else ''}"
