"""What routing costs: a routed point read against the same read on a plain table.

``python -m tenantry_loadtest.bench.routed_read``
"""

from __future__ import annotations

import argparse
import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg_pool import AsyncConnectionPool, ConnectionPool
from sqlalchemy import create_engine, select
from sqlalchemy.ext.horizontal_shard import ShardedSession
from sqlalchemy.orm import Session
from sqlalchemy.pool import QueuePool

from tenantry import AsyncRouter, Query
from tenantry_loadtest.bench.paired import Way, compare
from tenantry_loadtest.bench.printing import print_table
from tenantry_loadtest.bench.stage import Stage, stage
from tenantry_schema.models import Agent
from tenantry_schema.query import one

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from uuid import UUID

    from tenantry import Router
    from tenantry.reads import ReadPolicy

PLAIN = "SELECT name FROM plain.agents WHERE tenant_id = %s AND id = %s"
ROUTED = "SELECT name FROM agents WHERE tenant_id = %s AND id = %s"
# What Postgres itself charges: the routed transaction's statements, by hand, on a bare pool.
BARE = "BEGIN; SET LOCAL search_path = {}, shared; SET LOCAL tenantry.tenant = '{}'"


def plain_way(
    pool: ConnectionPool[Any], rows: list[tuple[UUID, UUID]], name: str = "plain psycopg_pool"
) -> Way:
    """Return a point read on the plain table, by a bare pool."""

    def once(number: int) -> None:
        with pool.connection() as conn:
            conn.execute(PLAIN, rows[number % len(rows)]).fetchone()

    return Way(name, once)


def routed_way(
    router: Router,
    rows: list[tuple[UUID, UUID]],
    name: str = "routed",
    read: ReadPolicy | None = None,
) -> Way:
    """Return the same read in a routed transaction."""

    def once(number: int) -> None:
        row = rows[number % len(rows)]
        with router.connection(tenant=row[0], read=read) as conn:
            conn.execute(ROUTED, row).fetchone()

    return Way(name, once)


def last_way(
    router: Router,
    rows: list[tuple[UUID, UUID]],
    name: str = "routed, run with last=True",
    read: ReadPolicy | None = None,
) -> Way:
    """Return the same read as a work that says that nothing comes after it."""

    def once(number: int) -> None:
        row = rows[number % len(rows)]
        router.run(partial(one, Query(ROUTED, row, last=True)), tenant=row[0], read=read)

    return Way(name, once)


def psycopg_ways(on: Stage, pool: ConnectionPool[Any]) -> list[Way]:
    """Return the plain read, the routed one, and the plain one that sends what routing sends."""
    rows = on.rows
    placed = {key: on.router.where(tenant=key).schema for key, _ in rows}
    # A text for each bucket, so that each is prepared for its own search_path.
    by_schema = {it: ROUTED.replace("agents", f"{it}.agents") for it in placed.values()}

    def by_hand(number: int) -> None:
        row = rows[number % len(rows)]
        schema = placed[row[0]]
        with pool.connection() as conn:
            conn.set_autocommit(True)
            conn.execute(BARE.format(schema, row[0]), prepare=False)
            conn.execute(by_schema[schema], row)
            conn.execute("COMMIT", prepare=False)
            conn.set_autocommit(False)

    return [
        plain_way(pool, rows),
        routed_way(on.router, rows),
        last_way(on.router, rows),
        Way("by hand", by_hand),
    ]


def orm_ways(on: Stage, pool_size: int) -> list[Way]:
    """Return a plain Session, a routed one, and SQLAlchemy's ShardedSession."""
    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(on.app),
        poolclass=QueuePool,
        pool_size=pool_size,
    ).execution_options(schema_translate_map={None: "plain"})
    sharded = {"only": engine}

    def statement(number: int) -> Any:
        key, agent = on.rows[number % len(on.rows)]
        return key, select(Agent.name).where(Agent.tenant_id == key, Agent.id == agent)

    def plain(number: int) -> None:
        with Session(engine) as session:
            session.scalar(statement(number)[1])
            session.commit()

    def routed(number: int) -> None:
        key, query = statement(number)
        with on.router.session(tenant=key) as session:
            session.scalar(query)

    def shards(number: int) -> None:
        with ShardedSession(
            shards=sharded,
            shard_chooser=lambda *_: "only",
            identity_chooser=lambda *_, **__: ["only"],
            execute_chooser=lambda _: ["only"],
        ) as session:
            session.scalar(statement(number)[1])
            session.commit()

    return [
        Way("plain Session", plain),
        Way("routed session", routed),
        Way("ShardedSession", shards),
    ]


def async_ways(
    on: Stage, pool_size: int, loop: asyncio.Runner
) -> tuple[list[Way], Callable[[], None]]:
    """Return the plain and the routed read of the async door, and what closes them."""
    rows = on.rows
    pool: AsyncConnectionPool[Any] = AsyncConnectionPool(
        on.app, min_size=pool_size, max_size=pool_size, open=False
    )
    router = AsyncRouter(on.fleet.catalog_conninfo(), pool_size=pool_size, prepared_max=4000)

    async def begin() -> None:
        await pool.open(wait=True)
        await router.open()

    async def end() -> None:
        await pool.close()
        await router.close()

    async def plain(number: int) -> None:
        async with pool.connection() as conn:
            await (await conn.execute(PLAIN, rows[number % len(rows)])).fetchone()

    async def routed(number: int) -> None:
        row = rows[number % len(rows)]
        async with router.connection(tenant=row[0]) as conn:
            await (await conn.execute(ROUTED, row)).fetchone()

    def once(do: Callable[[int], Awaitable[None]]) -> Callable[[int], None]:
        async def several(number: int) -> None:
            for it in range(20):
                await do(number * 20 + it)

        return lambda number: loop.run(several(number))

    loop.run(begin())
    ways = [Way("plain async pool, 20 reads", once(plain)), Way("routed, 20 reads", once(routed))]
    return ways, lambda: loop.run(end())


def measure(*, buckets: int, rounds: int, calls: int) -> list[dict[str, Any]]:
    """Measure on one stage; return the rows of the table."""
    results: list[dict[str, Any]] = []

    def add(kind: str, found: list[dict[str, Any]]) -> None:
        results.extend({"kind": kind, "buckets": buckets, **row} for row in found)

    # Each comparison has its own connections, as many on either side: a pool deals them in turn,
    # and statements prepared on one would be compared with statements prepared on eight.
    for threads in (1, 8):
        each = calls if threads == 1 else max(50, calls // 4)
        with (
            stage(buckets=buckets, pool=threads) as on,
            ConnectionPool(on.app, min_size=threads, max_size=threads) as pool,
        ):
            found = compare(psycopg_ways(on, pool), threads=threads, rounds=rounds, calls=each)
            add("psycopg", found)
    with stage(buckets=buckets, pool=1) as on:
        add("ORM", compare(orm_ways(on, 1), threads=1, rounds=rounds, calls=calls))
        with asyncio.Runner() as loop:
            ways, close = async_ways(on, 1, loop)
            found = compare(ways, threads=1, rounds=rounds, calls=max(10, calls // 20))
            add("async psycopg", found)
            close()
    return results


def growth(buckets: int, *, rounds: int, calls: int) -> list[dict[str, Any]]:
    """Compare a routed read among 16 buckets with one among many, on two servers in one run."""
    with stage(buckets=16, pool=1) as few, stage(buckets=buckets, pool=1) as many:
        ways = [
            routed_way(few.router, few.rows, "routed, 16 buckets"),
            routed_way(many.router, many.rows, f"routed, {buckets:,} buckets"),
        ]
        found = compare(ways, threads=1, rounds=rounds, calls=calls)
    return [{"kind": "growth", "buckets": "", **row} for row in found]


def main() -> None:
    """Print the table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument(
        "--growth", type=int, nargs="?", const=1024, help="only 16 buckets against so many"
    )
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    sizes = {"rounds": given.rounds, "calls": given.calls}
    rows = growth(given.growth, **sizes) if given.growth else measure(buckets=16, **sizes)
    print_table("routed reads", rows, as_json=given.json)


if __name__ == "__main__":
    main()
