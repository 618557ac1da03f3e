"""Lay out the buckets of one shard, and tell it who it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

from tenantry_schema.errors import AlreadyExists
from tenantry_schema.layout import bucket_statements
from tenantry_schema.naming import OWNER, bucket_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from uuid import UUID

    import psycopg

    from tenantry.map import Shard
    from tenantry_schema.layout import Layout

_WHO = """
INSERT INTO tenantry.shard AS it (fleet_id, shard_id, name) VALUES (%s, %s, %s)
ON CONFLICT (singleton) DO UPDATE SET name = excluded.name
WHERE it.fleet_id = excluded.fleet_id AND it.shard_id = excluded.shard_id
RETURNING fleet_id
"""
_RANGES = """
INSERT INTO tenantry.ranges (bucket, positions)
SELECT bucket, int8range(lo, hi)
FROM unnest(%s::int[], %s::bigint[], %s::bigint[]) AS it (bucket, lo, hi)
ON CONFLICT (bucket) DO NOTHING
"""
# A shard begins with the timeline that it is on; nothing older was ever promised.
_LINEAGE = "SELECT tenantry.certify_lineage(NULL)"
_SCHEMAS = "SELECT nspname FROM pg_namespace WHERE starts_with(nspname, 'bucket_')"


@dataclass(frozen=True, slots=True)
class ShardJob:
    """What one shard is to hold.

    :ivar buckets: the numbers of its buckets
    :ivar ranges: the ranges of all buckets of the fleet, by number
    """

    shard: Shard
    fleet_id: UUID
    layout: Layout
    buckets: Sequence[int]
    ranges: Sequence[tuple[int, int]]
    now: datetime


def lay_out(
    conn: psycopg.Connection[tuple[object, ...]], job: ShardJob, done: Callable[[int], None]
) -> None:
    """Make the buckets that are missing, each in one transaction and one message.

    :raises AlreadyExists: when the shard belongs to another fleet
    """
    conn.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(OWNER)))
    with conn.transaction():
        who = (job.fleet_id, job.shard.id, job.shard.name)
        if conn.execute(_WHO, who).fetchone() is None:
            raise AlreadyExists(
                f"the database of shard {job.shard.name!r} belongs to another fleet or another "
                "shard: give init an empty database"
            )
        numbers = list(range(len(job.ranges)))
        bounds = ([lo for lo, _ in job.ranges], [hi for _, hi in job.ranges])
        conn.execute(_RANGES, (numbers, *bounds))
        conn.execute(_LINEAGE)
    there = {row[0] for row in conn.execute(_SCHEMAS)}
    for number in job.buckets:
        if bucket_schema(number) not in there:
            statements = bucket_statements(job.layout, number, now=job.now)
            with conn.transaction():
                conn.execute(sql.SQL(";\n").join(statements), prepare=False)
        done(number)
