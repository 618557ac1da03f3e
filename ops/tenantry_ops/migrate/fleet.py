"""Upgrade the catalog and all shards of a fleet, once at a time.

The order is catalog, one canary shard, the others. What fails stops what has not begun; running
again resumes, because every revision is recorded where it was applied.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from tenantry_ops.cluster import read_places
from tenantry_ops.locking import operation
from tenantry_ops.migrate.process import Target, upgrade_database
from tenantry_schema.errors import MigrationFailed
from tenantry_schema.migrations import History, current_revision, head_revision

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class SchemaState:
    """Which revision each database has: ``catalog``, and every shard by its name.

    :ivar heads: the newest revision of each history
    """

    revisions: dict[str, str | None]
    heads: dict[str, str | None]

    @property
    def behind(self) -> list[str]:
        """The databases that are not at the newest revision."""
        return [
            name
            for name, revision in self.revisions.items()
            if revision != self.heads["catalog" if name == "catalog" else "shard"]
        ]


def migrate(
    catalog: str,
    *,
    revision: str = "head",
    jobs: int = 4,
    patience: float = 30.0,
    progress: Callable[[str], None] = lambda _: None,
) -> list[str]:
    """Upgrade a fleet; return the names of the databases that were upgraded, in order.

    :param catalog: conninfo of the catalog as ``tenantry_operator``
    :param jobs: how many shards at once, after the canary
    :raises OperationInProgress: when another process migrates the fleet
    :raises MigrationFailed: naming every database that failed
    """
    with operation(catalog, "migrate", "fleet"):
        upgrade_database(Target("catalog", History.CATALOG, catalog), patience=patience)
        progress("catalog")
        places = read_places(catalog)
        targets = [
            Target(it.name, History.SHARD, it.conninfo, places.models) for it in places.shards
        ]

        def one(target: Target) -> None:
            upgrade_database(target, revision=revision, patience=patience)
            progress(target.name)

        for canary in targets[:1]:
            one(canary)
        failures = _all(one, targets[1:], jobs)
    if failures:
        raise MigrationFailed("; ".join(failures))
    return ["catalog", *(target.name for target in targets)]


def schema_state(catalog: str) -> SchemaState:
    """Ask the catalog and every shard which revision it has."""
    places = read_places(catalog)
    revisions = {"catalog": _revision(catalog)}
    revisions |= {it.name: _revision(it.conninfo) for it in places.shards}
    heads = {history.value: head_revision(history) for history in History}
    return SchemaState(revisions, heads)


def _all(one: Callable[[Target], None], targets: list[Target], jobs: int) -> list[str]:
    def attempt(target: Target) -> str | None:
        try:
            one(target)
        except MigrationFailed as error:
            return str(error)
        return None

    with ThreadPoolExecutor(max(1, jobs)) as pool:
        return [failure for failure in pool.map(attempt, targets) if failure is not None]


def _revision(conninfo: str) -> str | None:
    engine = create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(conninfo), poolclass=NullPool
    )
    with engine.connect() as connection:
        return current_revision(connection)
