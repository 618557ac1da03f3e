"""Three ways to do one rollover of ``public.events``: create seven days, retire three."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import psycopg
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from tenantry_partitions.budget import Budget
from tenantry_partitions.policy import Policy
from tenantry_partitions.rollover import roll_over
from tenantry_partitions.session import maintenance

if TYPE_CHECKING:
    from collections.abc import Callable

AHEAD, RETENTION_DAYS = 7, 2

_TABLE = """
DROP SCHEMA public CASCADE;
CREATE SCHEMA public;
DELETE FROM partman.part_config;
CREATE TABLE public.events (id bigint NOT NULL, at timestamptz NOT NULL, body text)
    PARTITION BY RANGE (at);
CREATE INDEX ON public.events (at);
CREATE INDEX ON public.events (id, at)
"""
# Named as each of the three names: pg_partman finds its way by names.
_DAY = """
CREATE TABLE public.{name} PARTITION OF public.events FOR VALUES FROM ('{day}') TO ('{next}');
INSERT INTO public.events
SELECT it, '{day}'::timestamptz + it * interval '1 second', repeat('x', 100)
FROM generate_series(1, {rows}) AS it
"""
_REGISTER = """
INSERT INTO partman.part_config (
    parent_table, control, partition_type, partition_interval, premake, datetime_string,
    infinite_time_partitions, retention, retention_keep_table
) VALUES ('public.events', 'at', 'native', '1 day', 7, '{pattern}', true, {retention}, false)
"""
PATTERN, SMITH_PATTERN = "YYYYMMDD", "%Y_%m_%d"


def make_set(
    conninfo: str, *, smith: bool = False, default_rows: int = 0, retiring: bool = True
) -> None:
    """Make the set anew: today, two days before, and three that are to go.

    :param smith: name partitions as pg-partsmith does
    :param default_rows: rows of a default partition, of a time that no partition has
    """
    pattern = f"events__{SMITH_PATTERN}" if smith else "events_p%Y%m%d"
    with psycopg.connect(conninfo, autocommit=True) as conn:
        conn.execute("SET TimeZone = 'UTC'")
        conn.execute(_TABLE)
        for behind in [*((5, 4, 3) if retiring else ()), 2, 1, 0]:
            row = conn.execute(
                "SELECT day, day + interval '1 day' FROM"
                " (SELECT date_trunc('day', now()) - %s * interval '1 day') AS it (day)",
                (behind,),
            ).fetchone()
            assert row is not None
            text = _DAY.format(name=f"{row[0]:{pattern}}", day=row[0], next=row[1], rows=20_000)
            conn.execute(text.encode())
        if default_rows:
            conn.execute("CREATE TABLE public.events_default PARTITION OF public.events DEFAULT")
            conn.execute(
                "INSERT INTO public.events SELECT it, now() - interval '40 days'"
                " + it * interval '1 second', repeat('x', 100) FROM generate_series(1, %s) AS it",
                (default_rows,),
            )
        conn.execute("ANALYZE public.events")
        conn.execute("CHECKPOINT")


def ours(conninfo: str) -> None:
    """Roll over as `tenantry partitions rollover` does."""
    policy = Policy.parse(
        {
            "control": "at",
            "interval": "1 day",
            "premake": AHEAD,
            "retention": f"{RETENTION_DAYS} days",
            "at_end": "drop",
        }
    )
    budget = Budget()
    with maintenance(conninfo, budget) as conn:
        (report,) = roll_over(conn, {("public", "events"): policy}, budget)
    assert report.error is None, report.error


def partman(conninfo: str, *, retiring: bool = True) -> None:
    """Call pg_partman's run_maintenance."""
    retention = f"'{RETENTION_DAYS} days'" if retiring else "NULL"
    with psycopg.connect(conninfo, autocommit=True) as conn:
        conn.execute("SET TimeZone = 'UTC'")
        conn.execute(_REGISTER.format(pattern=PATTERN, retention=retention).encode())
        conn.execute("SELECT partman.run_maintenance('public.events', p_analyze := false)")


def partsmith(conninfo: str) -> None:
    """Apply pg-partsmith's plan, with its defaults."""
    from pg_partsmith import PartitionGranularity, TablePartitionConfig  # noqa: PLC0415  an extra
    from pg_partsmith.sync import (  # noqa: PLC0415
        PartitionLifecycleService,
        PartitionMaintainer,
        PostgresAdvisoryLockManager,
        PostgresMetadataProvider,
        PostgresPartitionRepository,
    )

    engine = create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(conninfo), poolclass=NullPool
    )
    config = TablePartitionConfig.model_validate(
        {
            "schema": "public",
            "table_name": "events",
            "partition_column": "at",
            "granularity": PartitionGranularity.DAY,
            "create_ahead_count": AHEAD + 1,
            "retention_count": 3,
        }
    )
    service = PartitionLifecycleService(
        repo=PostgresPartitionRepository(engine),
        metadata=PostgresMetadataProvider(engine),
        locks=PostgresAdvisoryLockManager(engine),
    )
    result = PartitionMaintainer(service).run_maintenance_safe(config)
    assert result.created_count == AHEAD, result


def check(conninfo: str) -> None:
    """Make sure that a rollover was done: today, two days before, and those that were made."""
    with psycopg.connect(conninfo) as conn:
        query = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'public.events'::regclass"
        row = conn.execute(query).fetchone()
    # pg_partman rounds: it may make one more.
    assert row in {(3 + AHEAD,), (4 + AHEAD,)}, row


def timed(do: Callable[[], None]) -> float:
    """Return how many seconds something took."""
    began = time.perf_counter()
    do()
    return time.perf_counter() - began
