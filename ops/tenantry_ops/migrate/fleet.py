"""Upgrade the catalog and all shards of a fleet, once at a time.

The order is catalog, one canary shard, the others. What fails stops what has not begun; running
again resumes, because every revision is recorded where it was applied.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from alembic.util import CommandError

from tenantry_ops.cluster import engine_of, read_places
from tenantry_ops.locking import operation
from tenantry_ops.migrate.process import Target, upgrade_database
from tenantry_ops.models import layout_of
from tenantry_schema.errors import MigrationFailed
from tenantry_schema.migrations import History, current_revisions, head_revisions, write_revision

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class SchemaState:
    """Which revisions each database has: ``catalog``, and every shard by its name.

    :ivar heads: the newest revisions of each history
    """

    revisions: dict[str, tuple[str, ...]]
    heads: dict[str, tuple[str, ...]]

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
    revision: str = "heads",
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


def write_fleet_revision(catalog: str, message: str, *, empty: bool = False) -> Path:
    """Write a revision of a service's models, compared with the first shard; return its path.

    :param empty: whether to leave its body to the author
    :raises InvalidConfig: when the models name no package for revisions
    :raises MigrationFailed: when the shard is not at the newest revision
    """
    places = read_places(catalog)
    layout = layout_of(places.models)
    first = places.shards[0]
    with engine_of(first.conninfo).connect() as connection:
        try:
            return write_revision(connection, layout, message, empty=empty)
        except CommandError as error:
            raise MigrationFailed(f"{first.name}: {error}; run `tenantry migrate` first") from error


def schema_state(catalog: str) -> SchemaState:
    """Ask the catalog and every shard which revision it has."""
    places = read_places(catalog)
    layout = layout_of(places.models)
    revisions = {"catalog": _revisions(catalog)}
    revisions |= {it.name: _revisions(it.conninfo) for it in places.shards}
    heads = {history.value: head_revisions(history, layout) for history in History}
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


def _revisions(conninfo: str) -> tuple[str, ...]:
    with engine_of(conninfo).connect() as connection:
        return current_revisions(connection)
