"""Tell every shard how the hash space is divided, as the catalog has it.

``tenantry.bucket_of`` on a shard answers from the shard's own copy of ranges and pins. Whatever
changes them in the catalog publishes them afterwards; doing it again changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from tenantry_ops.cluster import read_places
from tenantry_ops.locking import connect, operation
from tenantry_schema.errors import ShardUnavailable
from tenantry_schema.naming import ADMIN, OWNER

if TYPE_CHECKING:
    from collections.abc import Callable

_SNAPSHOT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
_WANTED = sql.Identifier("pg_temp", "wanted")


@dataclass(frozen=True, slots=True)
class _Copied:
    """A table of a shard that follows the catalog.

    :ivar rows: the query that gives its columns, in their order, in the catalog
    """

    name: str
    columns: tuple[str, ...]
    rows: str


_RANGES = _Copied(
    "ranges",
    ("bucket", "positions"),
    "SELECT number, positions FROM tenantry.buckets "
    "WHERE state <> 'retired' AND positions IS NOT NULL",
)
_PINS = _Copied(
    "pins",
    ("tenant_key", "position", "bucket"),
    "SELECT tenant_key, position, bucket FROM tenantry.pins",
)


@dataclass(frozen=True, slots=True)
class Published:
    """What a shard was told: how many rows of its copy were taken out or written."""

    shard: str
    ranges: int
    pins: int


def publish_map(
    catalog: str, *, progress: Callable[[str], None] = lambda _: None
) -> list[Published]:
    """Make every shard's ranges and pins the catalog's; each shard sees them change at once.

    :param catalog: conninfo of the catalog as ``tenantry_operator``
    :raises OperationInProgress: when another process publishes
    :raises ShardUnavailable: naming the shards that do not answer; the others were told
    """
    places = read_places(catalog)
    places.check_complete()
    told: list[Published] = []
    away: list[str] = []
    with operation(catalog, "map publish", "fleet"), connect(catalog) as conn, conn.transaction():
        conn.execute(_SNAPSHOT)
        for place in places.shards:
            try:
                shard = psycopg.connect(place.conninfo)
            except psycopg.OperationalError as error:
                away.append(f"{place.name!r} ({str(error).strip()})")
                continue
            with shard:
                shard.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(OWNER)))
                changed = [_follow(conn, shard, it) for it in (_RANGES, _PINS)]
            told.append(Published(place.name, *changed))
            progress(place.name)
    if away:
        raise ShardUnavailable(
            f"shard {', '.join(away)} does not answer: its tenantry.bucket_of is as it was; start "
            "it and run `tenantry map publish` again"
        )
    return told


def _follow(
    catalog: psycopg.Connection[Any], shard: psycopg.Connection[Any], copied: _Copied
) -> int:
    """Bring one table of a shard to what the catalog has; return how many rows that changed."""
    table = sql.Identifier(ADMIN, copied.name)
    names = sql.SQL(", ").join(map(sql.Identifier, copied.columns))
    shard.execute(sql.SQL("CREATE TEMP TABLE {} (LIKE {})").format(_WANTED, table))
    with (
        catalog.cursor().copy(f"COPY ({copied.rows}) TO STDOUT".encode()) as out,
        shard.cursor().copy(sql.SQL("COPY {} ({}) FROM STDIN").format(_WANTED, names)) as into,
    ):
        for data in out:
            into.write(data)
    same = sql.SQL(" AND ").join(
        sql.SQL("it.{name} = held.{name}").format(name=sql.Identifier(it)) for it in copied.columns
    )
    gone = shard.execute(
        sql.SQL("DELETE FROM {} AS held WHERE NOT EXISTS (SELECT FROM {} AS it WHERE {})").format(
            table, _WANTED, same
        )
    )
    made = shard.execute(
        sql.SQL(
            "INSERT INTO {table} ({names}) "
            "SELECT {names} FROM {wanted} EXCEPT SELECT {names} FROM {table}"
        ).format(table=table, names=names, wanted=_WANTED)
    )
    shard.execute(sql.SQL("DROP TABLE {}").format(_WANTED))
    return gone.rowcount + made.rowcount
