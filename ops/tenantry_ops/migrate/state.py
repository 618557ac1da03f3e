"""Which revisions the databases of a fleet say they have."""

from __future__ import annotations

from dataclasses import dataclass

from tenantry_ops.cluster import read_places
from tenantry_ops.engine import engine_of
from tenantry_ops.models import layout_of
from tenantry_schema.migrations import History, current_revisions, head_revisions


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
    layout = layout_of(places.models)
    revisions = {"catalog": _revisions(catalog)}
    revisions |= {it.name: _revisions(it.conninfo) for it in places.shards}
    heads = {history.value: head_revisions(history, layout) for history in History}
    return SchemaState(revisions, heads)


def _revisions(conninfo: str) -> tuple[str, ...]:
    with engine_of(conninfo).connect() as connection:
        return current_revisions(connection)
