"""A database of its own with partitioned tables, and policies for them: without buckets."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import psycopg
import pytest

from tenantry_partitions.budget import Budget
from tenantry_partitions.policy import Policy
from tenantry_partitions.rollover import plan_tables, roll_over
from tenantry_partitions.session import database_time, maintenance, prepare

EVENTS = """
CREATE TABLE public.events (
    id bigint NOT NULL, at timestamptz NOT NULL, body text, PRIMARY KEY (id, at)
) PARTITION BY RANGE (at);
CREATE INDEX ON public.events (at)
"""
TARGET = ("public", "events")


@dataclass
class Alone:
    """One database; the operator of its tables is its superuser."""

    conninfo: str
    budget: Budget

    @contextmanager
    def session(self):
        with maintenance(self.conninfo, self.budget) as conn:
            yield conn

    def run(self, *statements):
        with psycopg.connect(self.conninfo, autocommit=True) as conn:
            conn.execute("SET TimeZone = 'UTC'")
            for statement in statements:
                cursor = conn.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def roll_over(self, policy, target=TARGET):
        with self.session() as conn:
            (report,) = roll_over(conn, {target: policy}, self.budget)
        return report

    def plan(self, policy, target=TARGET, **more):
        with psycopg.connect(self.conninfo, autocommit=True) as conn:
            prepare(conn, self.budget)
            return plan_tables(conn, {target: policy}, **more)[target]

    def now(self):
        with psycopg.connect(self.conninfo) as conn:
            conn.execute("SET TimeZone = 'UTC'")
            return database_time(conn)

    def today(self):
        return self.now().replace(hour=0, minute=0, second=0, microsecond=0)

    def old_days(self, *behind, table="public.events", rows=10, names="%Y%m%d"):
        """Attach days that lie so many days behind, with rows."""
        made = []
        for days in behind:
            start = self.today() - timedelta(days=days)
            name = f"{table.partition('.')[2]}_p{start.strftime(names)}"
            self.run(
                f"CREATE TABLE public.{name} PARTITION OF {table} "
                f"FOR VALUES FROM ('{start}') TO ('{start + timedelta(days=1)}')",
                f"INSERT INTO {table} SELECT it, '{start}'::timestamptz + it * interval '20 s'"
                f", 'row ' || it FROM generate_series(1, {rows}) AS it",
            )
            made.append(name)
        return made

    def partitions(self, table="public.events"):
        return [
            name
            for (name,) in self.run(
                "SELECT inhrelid::regclass::text FROM pg_inherits "
                f"WHERE inhparent = '{table}'::regclass ORDER BY 1"
            )
        ]


def daily(**more):
    return Policy.parse({"control": "at", "interval": "1 day", "premake": 3, **more})


@pytest.fixture(scope="session")
def partitioned(fleet):
    """A database for all tests of partitions: making one for each would take most of their time."""
    server = fleet.shards[0].primary
    with psycopg.connect(fleet.superuser_conninfo(server), autocommit=True) as conn:
        conn.execute("CREATE DATABASE partitioned")
    return fleet.superuser_conninfo(server, "partitioned")


@pytest.fixture
def alone(partitioned):
    """An empty partitioned table `public.events`, and what rolls it over."""
    found = Alone(partitioned, Budget(total=3))
    found.run(
        "DROP SCHEMA public CASCADE",
        "DROP SCHEMA IF EXISTS tenantry CASCADE",
        "CREATE SCHEMA public",
        EVENTS,
    )
    return found
