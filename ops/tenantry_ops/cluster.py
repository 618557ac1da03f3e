"""Where a fleet's databases are, for commands that go to all of them directly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg

from tenantry.catalog import load_map
from tenantry.conninfo import parse, primary_conninfo
from tenantry.drive import drive
from tenantry_ops.locking import connect
from tenantry_schema.errors import CatalogUnavailable, ShardUnavailable

if TYPE_CHECKING:
    from tenantry.map import Map


@dataclass(frozen=True, slots=True)
class ShardPlace:
    """A shard, and how its primary is reached."""

    id: int
    name: str
    conninfo: str


@dataclass(frozen=True, slots=True)
class FleetPlaces:
    """All shards of a fleet, its map, and the name of its models."""

    map: Map
    models: str | None
    shards: tuple[ShardPlace, ...]

    def check_complete(self) -> None:
        """Refuse to do something to all shards when some cannot be reached by what is known.

        :raises ShardUnavailable: naming them
        """
        without = [it.name for it in self.map.shards.values() if not it.nodes]
        without += [f"number {it}, which is not described" for it in self.map.undescribed]
        if without:
            raise ShardUnavailable(
                f"the catalog names no nodes of shard {', '.join(without)}: nothing was done; "
                "see `tenantry doctor`"
            )


def read_places(catalog: str) -> FleetPlaces:
    """Read where the shards are.

    :raises CatalogUnavailable: when the catalog does not answer or holds no fleet
    """
    given = parse(catalog)
    with connect(catalog) as conn, conn.transaction():
        try:
            conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            held = drive(conn, load_map())
            models = conn.execute("SELECT models FROM tenantry.fleet").fetchone()
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName) as error:
            raise CatalogUnavailable("there is no fleet yet: run `tenantry init`") from error
    shards = tuple(
        ShardPlace(it.id, it.name, primary_conninfo(given, it.nodes, "tenantry-ops"))
        for it in held.shards.values()
        if it.nodes
    )
    return FleetPlaces(held, None if models is None else models[0], shards)  # type: ignore[arg-type]
