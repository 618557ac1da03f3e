"""Which databases have partitions to maintain, and what is asked of each.

A fleet's policies come from its models, then from what migrations set on the shard, then from what
an operator set in the catalog: the later one wins, table by table. A database alone has its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tenantry.conninfo import parse, shown
from tenantry_ops.cluster import read_places
from tenantry_ops.locking import connect
from tenantry_ops.models import layout_of
from tenantry_partitions.policies import read_policies, split_name, targets
from tenantry_partitions.policy import policies_of
from tenantry_schema.errors import UnknownBucket, UnknownShard

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    import psycopg

    from tenantry_partitions.inspect import Target
    from tenantry_partitions.policy import Policy


@dataclass(frozen=True, slots=True)
class Database:
    """A database whose partitions are maintained.

    :ivar below: policies that the database's own override
    :ivar above: policies that override the database's own
    :ivar buckets: the schemas of the buckets that it holds
    :ivar tables: names of the tables that are wanted, or none for all
    """

    name: str
    conninfo: str
    below: dict[str, Policy]
    above: dict[str, Policy]
    buckets: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()

    def named(self, conn: psycopg.Connection[Any]) -> dict[str, Policy]:
        """Return the policies that hold here by their names, on a connection to the database."""
        return {**self.below, **read_policies(conn), **self.above}

    def policies(self, conn: psycopg.Connection[Any]) -> dict[Target, Policy]:
        """Return the policy of each table, on a connection to the database."""
        named = self.named(conn)
        wanted = {
            name: policy for name, policy in named.items() if not self.tables or name in self.tables
        }
        return targets(wanted, self.buckets)


def one_database(conninfo: str, tables: Sequence[str] = ()) -> list[Database]:
    """Return a database alone, by its conninfo."""
    for name in tables:
        split_name(name)
    return [Database(shown(parse(conninfo)), conninfo, {}, {}, (), tuple(tables))]


def databases(
    catalog: str,
    *,
    shards: Sequence[str] = (),
    buckets: Sequence[int] = (),
    tables: Sequence[str] = (),
) -> list[Database]:
    """Return every shard's database, or those that are named.

    :raises UnknownShard: for a name that no shard has
    :raises UnknownBucket: for a number that no bucket has
    """
    places = read_places(catalog)
    for name in tables:
        split_name(name)
    known = {shard.name for shard in places.shards}
    for name in shards:
        if name not in known:
            raise UnknownShard(f"no shard is called {name!r:.80}; there are {sorted(known)}")
    chosen = {places.map.of_bucket(number) for number in buckets}
    placed = [it for it in places.map.placements() if not chosen or it in chosen]
    with connect(catalog) as conn:
        above = read_policies(conn)
    below = policies_of(layout_of(places.models))
    found = []
    for shard in places.shards:
        mine = tuple(it.schema for it in placed if it.shard == shard.id)
        if (not shards or shard.name in shards) and (mine or not buckets):
            found.append(Database(shard.name, shard.conninfo, below, above, mine, tuple(tables)))
    if buckets and not found:
        raise UnknownBucket(f"none of the buckets {list(buckets)} lies on {list(shards)}")
    return found
