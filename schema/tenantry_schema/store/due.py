"""Which tenants have something to do: the one read that is of no tenant.

It is asked as the role ``tenantry_worker``, which sees tenant, queue and times of tasks and
schedules, and may change nothing. Each tenant costs two steps through an index, however many tasks
it has (a loose index scan: recursive, because Postgres has none of its own before version 18).
Nothing is decided by the answer: whoever is named is asked for claims, tenant by tenant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from tenantry_schema.query import Query
from tenantry_schema.sql import load
from tenantry_schema.store import checks

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Buckets of one statement: beyond, planning it takes longer than running it.
LARGEST_SWEEP = 64


def due(schemas: Sequence[str], queues: Sequence[str]) -> list[Query]:
    """Return what finds the tenants of some buckets that have something to do.

    The rows are ``(tenant, queue)`` for tasks that may be claimed, and ``(tenant, None)`` for
    schedules that are due.

    :param schemas: the buckets' schemas
    :param queues: the queues that count
    """
    params = {"queues": [checks.queue(it) for it in queues]}
    starts = range(0, len(schemas), LARGEST_SWEEP)
    return [Query(_text(schemas[it : it + LARGEST_SWEEP]), params) for it in starts]


def _text(schemas: Sequence[str]) -> sql.Composed:
    parts = [_part(name, schema) for schema in schemas for name in ("due_tasks", "due_tenants")]
    return sql.SQL("\nUNION ALL\n").join(parts)


def _part(name: str, schema: str) -> sql.Composed:
    return sql.SQL(load(name)).format(
        tasks=sql.Identifier(schema, "tasks"), schedules=sql.Identifier(schema, "schedules")
    )
