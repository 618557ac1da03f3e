"""Where a fleet's databases are, for commands that go to all of them directly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg

from tenantry.catalog import load_map
from tenantry.conninfo import parse, primary_conninfo
from tenantry.drive import drive
from tenantry_ops.locking import connect
from tenantry_schema.errors import CatalogUnavailable, ShardUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tenantry.map import Map, Shard


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
    :raises InvalidConfig: when what it holds is no map, or nodes of a shard name several databases
    """
    held, models = read_map(catalog)
    given = parse(catalog)
    shards = tuple(place_of(it, given) for it in held.shards.values() if it.nodes)
    return FleetPlaces(held, models, shards)


def place_of(shard: Shard, given: Mapping[str, Any]) -> ShardPlace:
    """Return how a shard's primary is reached.

    :param given: the parsed conninfo of the catalog: who connects, and how
    :raises InvalidConfig: when its nodes do not share one database name
    """
    return ShardPlace(shard.id, shard.name, primary_conninfo(given, shard.nodes, "tenantry-ops"))


def read_map(catalog: str) -> tuple[Map, str | None]:
    """Read the map and the name of the fleet's models.

    :raises CatalogUnavailable: when the catalog does not answer or holds no fleet
    :raises InvalidConfig: when what it holds is no map
    """
    with connect(catalog) as conn, conn.transaction():
        try:
            conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            held = drive(conn, load_map())
            models = conn.execute("SELECT models FROM tenantry.fleet").fetchone()
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName) as error:
            raise CatalogUnavailable("there is no fleet yet: run `tenantry init`") from error
    return held, None if models is None else models[0]  # type: ignore[return-value]
