"""Measure, print the table, and say which of the promises hold."""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import ExitStack
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

import psycopg

from tenantry_loadtest.bench.printing import print_table
from tenantry_loadtest.bench.rollover import ways
from tenantry_loadtest.bench.rollover.archive import measure_archive
from tenantry_loadtest.bench.rollover.promises import DEFAULT, READER, Run, promises
from tenantry_loadtest.bench.rollover.stall import calling, reading
from tenantry_loadtest.bench.stage import passing_fleet
from tenantry_ops.initialise import embedded_plan, initialise
from tenantry_ops.partitions import databases, roll_over_all
from tenantry_ops.partitions.lead import OK, exit_code
from tenantry_partitions.budget import Budget
from tenantry_partitions.policies import set_policy
from tenantry_partitions.policy import Policy
from tenantry_schema.naming import OPERATOR

if TYPE_CHECKING:
    from collections.abc import Callable

PG_BIN = "/usr/lib/postgresql/15/bin"
_SERVER: dict[str, Any] = {"shards": 1, "replicas": 0, "profile": "durable", "pg_bin": PG_BIN}
_WRITE = "INSERT INTO public.events VALUES (1, clock_timestamp(), 'w')"
_READ = "SELECT count(*) FROM public.events"
_OLD = "SELECT count(*) FROM public.events WHERE at = now() - interval '39 days'"
_READER_S = 4.0


def beside_a_reader(conninfo: str, rounds: int) -> list[Run]:
    """Measure one rollover, create 7 and retire 3, beside a full-speed writer and a 4 s reader."""
    found: list[Run] = []
    each: dict[str, Callable[[str], None]] = {
        "ours": ways.ours,
        "pg_partman": ways.partman,
        "pg-partsmith": ways.partsmith,
    }
    for number in range(rounds):
        for name, way in each.items():
            ways.make_set(conninfo, smith=way is ways.partsmith)
            with (
                calling(conninfo, _WRITE) as writer,
                reading(conninfo, _READ, _READER_S),
            ):
                seconds = ways.timed(partial(way, conninfo))
            assert writer.errors == [], writer.errors[:3]
            ways.check(conninfo)
            found.append(Run(READER, name, number, writer.longest, seconds))
    return found


def beside_a_full_default(conninfo: str, rounds: int, rows: int) -> list[Run]:
    """Measure how a set goes on whose default is full, as readers of those rows feel it too."""
    found = []
    each: dict[str, Callable[[str], None]] = {
        "ours": ways.ours,
        "pg_partman": partial(ways.partman, retiring=False),
    }
    for number in range(rounds):
        for name, way in each.items():
            ways.make_set(conninfo, default_rows=rows, retiring=False)
            with calling(conninfo, _WRITE) as writer, calling(conninfo, _OLD) as reader:
                seconds = ways.timed(partial(way, conninfo))
            assert writer.errors == reader.errors == []
            longest = max(writer.longest, reader.longest)
            found.append(Run(DEFAULT, name, number, longest, seconds))
    return found


def of_many_buckets(counts: tuple[int, ...]) -> list[Run]:
    """One partition for each of two tables of every bucket of one shard."""
    found = []
    for count in counts:
        with passing_fleet(**_SERVER) as fleet:
            initialise(embedded_plan(fleet, buckets=count))
            catalog = fleet.catalog_conninfo(OPERATOR)
            eight = Policy.parse({"control": "at", "interval": "1 week", "premake": 8})
            with psycopg.connect(catalog, autocommit=True) as conn:
                for table in ("logs", "transitions"):
                    set_policy(conn, table, eight)
            shard = fleet.superuser_conninfo(fleet.shards[0].primary, "tenantry")
            write = (
                "INSERT INTO bucket_0000.logs (tenant_id, at, id, message, fields)"
                " VALUES (gen_random_uuid(), now(), gen_random_uuid(), 'w', '{}')"
            )
            with calling(shard, write) as writer:
                began = time.perf_counter()
                reports = roll_over_all(databases(catalog), Budget(), jobs=1)
                seconds = time.perf_counter() - began
            assert exit_code(reports, 8) == OK
            case = f"{count} buckets x 2 tables"
            found.append(Run(case, "ours", 0, writer.longest, seconds, buckets=count))
    return found


def _summary(runs: list[Run]) -> list[dict[str, Any]]:
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.case, run.way), []).append(run)
    return [
        {
            "case": case,
            "way": way,
            "rounds": len(group),
            "stall ms, median": round(median(it.stall_ms for it in group), 1),
            "stall ms, longest": round(max(it.stall_ms for it in group), 1),
            "seconds": round(median(it.seconds for it in group), 2),
        }
        for (case, way), group in groups.items()
    ]


def main() -> None:
    """Measure what was asked for; exit with 1 when a promise does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--default-rows", type=int, default=2_000_000)
    parser.add_argument("--archive-rows", type=int, default=4_000_000)
    parser.add_argument("--buckets", type=int, nargs="*", default=[64, 256])
    parser.add_argument("--only", choices=["reader", "default", "buckets", "archive"])
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    runs: list[Run] = []
    archived: list[dict[str, Any]] = []
    with ExitStack() as stack:
        if given.only != "buckets":
            fleet = stack.enter_context(passing_fleet(**_SERVER))
            conninfo = fleet.superuser_conninfo(fleet.shards[0].primary)
            with psycopg.connect(conninfo, autocommit=True) as conn:
                conn.execute("CREATE SCHEMA partman; CREATE EXTENSION pg_partman SCHEMA partman")
        if given.only in {None, "reader"}:
            runs += beside_a_reader(conninfo, given.rounds)
        if given.only in {None, "default"}:
            runs += beside_a_full_default(conninfo, given.rounds, given.default_rows)
        if given.only in {None, "archive"}:
            archived = measure_archive(conninfo, given.archive_rows)
    if given.only in {None, "buckets"}:
        runs += of_many_buckets(tuple(given.buckets))
    kept = promises(runs, archived)
    for title, rows in (
        ("What others feel of a rollover", _summary(runs)),
        ("Archive", archived),
        ("Promises", kept),
    ):
        if rows:
            print_table(title, rows, as_json=given.json)
    sys.exit(0 if all(it["holds"] for it in kept) else 1)


if __name__ == "__main__":
    main()
