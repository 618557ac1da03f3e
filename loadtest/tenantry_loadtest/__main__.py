"""The process that drives a load run; ``tenantry load`` starts it.

It is told what to do by one line of JSON on standard input, so that no connection string is seen in
the list of processes, and tells what it does by lines on standard output. When its input ends, by
intention or because its parent did, it stops.
"""

# ruff: noqa: E402  threads, sockets and waits must be gevent's before anybody takes hold of them
from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import json
import logging
import os
import signal
import sys
from typing import Any

import gevent
from gevent.event import Event
from gevent.select import select

from tenantry_loadtest.drive import drive
from tenantry_loadtest.plan import Drive
from tenantry_schema.errors import TenantryError

# Far beyond what any run takes to start and to stop.
_PATIENCE_S = 120


def main() -> None:
    """Drive the load that standard input describes."""
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    plan = Drive(**json.loads(sys.stdin.readline()))
    # Greenlets that block for ever would block whatever else might end them.
    signal.alarm(int(plan.seconds) + _PATIENCE_S)
    stopped = Event()
    watching = gevent.spawn(_watch, stopped)
    try:
        result = drive(plan, stopped, _tell)
    except TenantryError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    finally:
        watching.kill()
    if not stopped.is_set():
        _tell({"result": result})


def _watch(stopped: Event) -> None:
    select([sys.stdin.fileno()], [], [])
    os.read(sys.stdin.fileno(), 1)
    stopped.set()


def _tell(message: dict[str, Any]) -> None:
    sys.stdout.write(f"{json.dumps(message)}\n")
    sys.stdout.flush()


main()
