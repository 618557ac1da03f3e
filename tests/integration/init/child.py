"""An init that ends itself by SIGKILL after a number of statements, given a plan on stdin."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading

import psycopg

from tenantry.map import Node, Shard
from tenantry_ops.initialise import InitPlan, initialise


def main() -> None:
    told = json.load(sys.stdin)
    counted = [told["statements"]]
    lock = threading.Lock()
    send = psycopg.Cursor.execute

    def execute(self, *args, **options):
        with lock:
            if counted[0] <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
            counted[0] -= 1
        return send(self, *args, **options)

    psycopg.Cursor.execute = execute
    shards = tuple(
        Shard(id_, name, tuple(Node(*node) for node in nodes))
        for id_, name, nodes in told["shards"]
    )
    initialise(InitPlan(told["catalog"], shards, told["buckets"]))


main()
