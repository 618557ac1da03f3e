"""Which revisions the databases of a fleet say they have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tenantry_ops.cluster import read_places
from tenantry_ops.engine import engine_of
from tenantry_ops.models import layout_of
from tenantry_schema.migrations import History, current_revisions, head_revisions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tenantry_ops.cluster import ShardPlace


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


def schema_state(catalog: str) -> SchemaState:
    """Ask the catalog and every shard which revision it has."""
    places = read_places(catalog)
    heads = heads_of(places.models)
    return SchemaState(revisions_of(catalog, places.shards), heads)


def heads_of(models: str | None) -> dict[str, tuple[str, ...]]:
    """Return the newest revisions of each history.

    :param models: the name of a service's models, or None for the shipped ones
    :raises InvalidConfig: when they, or their package of revisions, cannot be imported
    :raises InvalidSchema: when their tables cannot live in buckets
    """
    layout = layout_of(models)
    return {history.value: head_revisions(history, layout) for history in History}


def revisions_of(catalog: str, shards: Sequence[ShardPlace]) -> dict[str, tuple[str, ...]]:
    """Ask the catalog and every shard which revision it has."""
    revisions = {"catalog": _revisions(catalog)}
    return revisions | {it.name: _revisions(it.conninfo) for it in shards}


def _revisions(conninfo: str) -> tuple[str, ...]:
    with engine_of(conninfo).connect() as connection:
        return current_revisions(connection)
