"""Upgrade the catalog and all shards of a fleet, once at a time.

The order is catalog, one canary shard, the others. A catalog or a canary that fails stops all that
follows; of the others each is attempted, whatever became of the rest. Running again resumes,
because every revision is recorded where it was applied.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from tenantry_ops.cluster import read_places
from tenantry_ops.locking import operation
from tenantry_ops.migrate.process import Target, Upgrades
from tenantry_schema.errors import MigrationFailed
from tenantry_schema.naming import History

if TYPE_CHECKING:
    from collections.abc import Callable


def migrate(
    catalog: str,
    *,
    revision: str = "heads",
    jobs: int = 4,
    patience: float = 30.0,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, tuple[str, ...]]:
    """Upgrade a fleet; return the revisions of each database by its name, in the order of upgrade.

    :param catalog: conninfo of the catalog as ``tenantry_operator``
    :param jobs: how many shards at once, after the canary
    :raises OperationInProgress: when another process migrates the fleet
    :raises ShardUnavailable: when the catalog does not say where a shard is
    :raises MigrationFailed: naming every database that failed
    """
    reached: dict[str, tuple[str, ...]] = {}
    with Upgrades() as upgrades, operation(catalog, "migrate", "fleet"):
        first = Target("catalog", History.CATALOG, catalog)
        reached["catalog"] = upgrades.upgrade(first, patience=patience)
        progress("catalog")
        places = read_places(catalog)
        places.check_complete()
        targets = [
            Target(it.name, History.SHARD, it.conninfo, places.models) for it in places.shards
        ]
        # Every shard has its place in the answer before threads fill them.
        reached |= {it.name: () for it in targets}

        def one(target: Target) -> None:
            reached[target.name] = upgrades.upgrade(target, revision=revision, patience=patience)
            progress(target.name)

        for canary in targets[:1]:
            one(canary)
        failures = _all(one, targets[1:], jobs)
    if failures:
        raise MigrationFailed("; ".join(failures))
    return reached


def _all(one: Callable[[Target], None], targets: list[Target], jobs: int) -> list[str]:
    def attempt(target: Target) -> str | None:
        try:
            one(target)
        except MigrationFailed as error:
            return str(error)
        return None

    with ThreadPoolExecutor(max(1, jobs)) as pool:
        return [failure for failure in pool.map(attempt, targets) if failure is not None]
