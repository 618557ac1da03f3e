"""Read the structure of every bucket of a fleet, and of one as the models would make it today.

The model is made for real, on the first shard, in a transaction that is rolled back: Postgres says
in the same words what it made and what is there.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from tenantry_ops.cluster import read_places
from tenantry_ops.models import layout_of
from tenantry_ops.structure.compare import Difference, differences, misplaced
from tenantry_ops.structure.facts import Fact, Structure, structures
from tenantry_schema.errors import ShardUnavailable
from tenantry_schema.layout import read_grants, table_statements
from tenantry_schema.layout.ddl import parent_ddl
from tenantry_schema.naming import FLEET, OWNER, SERVING, SHARED, parse_bucket_schema
from tenantry_schema.sql import load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tenantry.map import Map
    from tenantry_ops.cluster import ShardPlace
    from tenantry_schema.layout import Layout

_PARENTS, _BUCKET = "tenantry_expected_parents", "tenantry_expected_bucket"
_SHARED = "tenantry_expected_shared"
_NUMBER = 1
_SCHEMAS = "SELECT nspname FROM pg_namespace WHERE nspname ~ '^bucket_[0-9]{4,}(_g[0-9]+)?$'"


@dataclass(frozen=True, slots=True)
class _Expected:
    """What the models make today: parents, any bucket, reference tables."""

    parents: Structure
    bucket: Structure
    shared: Structure


def schema_diff(
    catalog: str, *, progress: Callable[[str], None] = lambda _: None
) -> list[Difference]:
    """Return every difference between a fleet and its models, and between it and its catalog.

    Buckets, parents and reference tables are compared with the models. A bucket that is not there,
    or that the catalog places elsewhere, is a difference as a whole.

    :param catalog: conninfo of the catalog as ``tenantry_operator``
    :raises ShardUnavailable: naming the shard that does not answer
    """
    places = read_places(catalog)
    places.check_complete()
    layout = layout_of(places.models)
    expected: _Expected | None = None
    found: list[Difference] = []
    for shard in places.shards:
        with _connected(shard.name, shard.conninfo) as conn:
            there = _structures(conn)
            if expected is None:
                expected = _made(conn, layout)
        found.extend(_differences(shard, places.map, expected, there))
        progress(shard.name)
    return found


def _differences(
    shard: ShardPlace, held: Map, expected: _Expected, there: dict[str, Structure]
) -> Iterator[Difference]:
    yield from differences(shard.name, FLEET, expected.parents, there.pop(FLEET))
    yield from differences(shard.name, SHARED, expected.shared, there.pop(SHARED))
    placements = list(held.placements())
    homes = {it.schema: held.shards[it.shard].name for it in placements}
    placed = {it.schema for it in placements if it.shard == shard.id}
    yield from misplaced(shard.name, placed, there.keys(), homes)
    for schema in sorted(placed & there.keys()):
        yield from differences(shard.name, schema, expected.bucket, there[schema])


def _connected(name: str, conninfo: str) -> psycopg.Connection[Any]:
    try:
        conn = psycopg.connect(conninfo)
    except psycopg.OperationalError as error:
        raise ShardUnavailable(
            f"shard {name!r} does not answer ({str(error).strip()}): nothing was compared"
        ) from error
    conn.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(OWNER)))
    conn.execute("SET search_path = ''")
    conn.execute("SET lock_timeout = '1s'")
    conn.commit()
    return conn


def _structures(conn: psycopg.Connection[Any]) -> dict[str, Structure]:
    with conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        buckets = [name for (name,) in conn.execute(_SCHEMAS) if parse_bucket_schema(name)]
        return _read(conn, [*buckets, FLEET, SHARED], _numbers(buckets))


def _made(conn: psycopg.Connection[Any], layout: Layout) -> _Expected:
    with conn.transaction(force_rollback=True):
        for schema in (_PARENTS, _BUCKET, _SHARED):
            conn.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
        for text in parent_ddl(layout, _PARENTS, _SHARED):
            conn.execute(text.encode())
        now = datetime.now(UTC)
        made = table_statements(layout, _BUCKET, _NUMBER, now=now, parents=_PARENTS, shared=_SHARED)
        used = sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(
            sql.Identifier(_BUCKET), sql.SQL(", ").join(sql.Identifier(it) for it in SERVING)
        )
        every = [*made, used, *read_grants(_SHARED)]
        conn.execute(sql.SQL(";\n").join(every), prepare=False)
        read = _read(conn, [_PARENTS, _BUCKET, _SHARED], {_BUCKET: _NUMBER})
    return _Expected(read[_PARENTS], read[_BUCKET], read[_SHARED])


def _read(
    conn: psycopg.Connection[Any], schemas: Sequence[str], numbers: dict[str, int]
) -> dict[str, Structure]:
    rows = conn.execute(load("structure"), {"schemas": list(schemas)})
    found = structures((Fact(*row) for row in rows), numbers, {_SHARED: SHARED})
    # A schema of which nothing is left is one that everything is missing from.
    return {schema: found.get(schema, Structure()) for schema in schemas}


def _numbers(schemas: Sequence[str]) -> dict[str, int]:
    parsed = ((schema, parse_bucket_schema(schema)) for schema in schemas)
    return {schema: it[0] for schema, it in parsed if it is not None}
