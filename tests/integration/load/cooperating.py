"""A service under gevent: does a router let other greenlets go on? Says what it measured."""

# ruff: noqa: E402  nobody may take hold of what gevent is about to patch
from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import json
import sys
import time
from uuid import UUID

import gevent
import psycopg

from tenantry import DeadlineExceeded, Router
from tenantry.catalog import load_map
from tenantry.catalog_writes import place_bucket
from tenantry.drive import drive
from tenantry_loadtest.cooperation import interleave
from tenantry_loadtest.history import Seat


def main() -> None:
    told = json.load(sys.stdin)
    key = UUID(told["tenant"])
    # Only a notification can wake the follower before this is over.
    with Router(told["service"], poll_interval=3600) as router:
        measured = {
            "interleaved": interleave(router, Seat("x", key, key)),
            "deadline": ended_by_the_watchdog(router, key),
            "ticks": ticks_meanwhile(router, key),
            "followed": follows(router, told["operator"]),
        }
    json.dump(measured, sys.stdout)


def ended_by_the_watchdog(router, key):
    started = time.monotonic()
    try:
        with router.connection(tenant=key, deadline=0.3) as conn:
            conn.execute("SELECT pg_sleep(30)")
    except DeadlineExceeded:
        return time.monotonic() - started
    raise AssertionError("it slept for 30 s")


def ticks_meanwhile(router, key):
    """Count the turns of another greenlet during 0.5 s in the database."""
    turns = 0

    def tick():
        nonlocal turns
        while True:
            gevent.sleep(0.01)
            turns += 1

    ticking = gevent.spawn(tick)
    with router.session(tenant=key) as session:
        session.connection().exec_driver_sql("SELECT pg_sleep(0.5)")
    ticking.kill()
    return turns


def follows(router, operator):
    before = router.map
    bucket = next(iter(before.placements()))
    with psycopg.connect(operator) as conn:
        version = drive(conn, load_map()).version
        drive(conn, place_bucket(bucket.bucket, bucket.shard, version=version))
    with gevent.Timeout(10):
        while router.map is before:
            gevent.sleep(0.01)
    return router.map.version - before.version


main()
