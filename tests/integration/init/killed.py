"""Inits that end themselves by SIGKILL, each a few statements later than the one before.

Reads the plan and where to strike as JSON. Prints how many were killed before one came through, and
the fleets that the shards said they belong to in between.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import threading

import psycopg

from tenantry.conninfo import parse, primary_conninfo
from tenantry.map import Node, Shard
from tenantry_ops.initialise import InitPlan, initialise

SESSIONS = """
SELECT count(*) FROM pg_stat_activity WHERE datname = ANY (%s) AND pid <> pg_backend_pid()
"""


def plan_of(told):
    shards = tuple(
        Shard(id_, name, tuple(Node(*node) for node in nodes))
        for id_, name, nodes in told["shards"]
    )
    return InitPlan(told["catalog"], shards, told["buckets"])


def attempt(plan, statements):
    """Say whether an init came through that has so many statements to live."""
    child = os.fork()
    if child == 0:
        die_after(statements)
        initialise(plan)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return False
    if os.WEXITSTATUS(status):
        sys.exit(os.WEXITSTATUS(status))
    return True


def die_after(statements):
    send, lock, left = psycopg.Cursor.execute, threading.Lock(), iter(range(statements))

    def execute(self, *args, **options):
        with lock:
            if next(left, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)
        return send(self, *args, **options)

    psycopg.Cursor.execute = execute


def fleets(plan):
    """Return what the shards say once the killed init's sessions have ended on the servers."""
    given = parse(plan.catalog)
    found = set()
    for conninfo in (plan.catalog, *(primary_conninfo(given, it.nodes, "") for it in plan.shards)):
        names = [given["dbname"], *(node.dbname for it in plan.shards for node in it.nodes)]
        with psycopg.connect(conninfo, autocommit=True) as conn:
            while conn.execute(SESSIONS, (names,)).fetchone() != (0,):
                conn.execute("SELECT pg_sleep(0.01)")
            if conn.execute("SELECT to_regclass('tenantry.shard')").fetchone() != (None,):
                found |= set(conn.execute("SELECT fleet_id::text FROM tenantry.shard"))
    return {fleet for (fleet,) in found}


def main():
    told = json.load(sys.stdin)
    plan = plan_of(told)
    begun = set()
    for killed, statements in enumerate(itertools.count(told["first"], told["step"])):
        if killed == told["most"] or attempt(plan, statements):
            json.dump({"killed": killed, "begun": sorted(begun)}, sys.stdout)
            return
        begun |= fleets(plan)


if __name__ == "__main__":
    main()
