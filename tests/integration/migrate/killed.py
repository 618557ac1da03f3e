"""Upgrade a shard in children that kill themselves one statement later each time.

Prints after how many statements the last one was through.
"""

from __future__ import annotations

import json
import os
import signal
import sys

from sqlalchemy import event

from tenantry_ops.engine import engine_of
from tenantry_ops.models import layout_of
from tenantry_schema.migrations import History, upgrade

MOST = 500


def die_after(engine, count):
    seen = 0

    @event.listens_for(engine, "after_cursor_execute")
    def count_and_die(*_):
        nonlocal seen
        seen += 1
        if seen == count:
            os.kill(os.getpid(), signal.SIGKILL)


def attempt(told, layout, count):
    child = os.fork()
    if child == 0:
        engine = engine_of(told["conninfo"])
        die_after(engine, count)
        with engine.connect() as connection:
            connection.exec_driver_sql("SELECT pg_advisory_lock(hashtext('tenantry upgrade'))")
            connection.commit()
            upgrade(History.SHARD, connection, layout)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return False
    if os.WEXITSTATUS(status):
        sys.exit(os.WEXITSTATUS(status))
    return True


def main():
    told = json.load(sys.stdin)
    sys.path[:] = told["path"]
    layout = layout_of(told["models"])
    for count in range(1, MOST):
        if attempt(told, layout, count):
            sys.stdout.write(f"{count}\n")
            return
    sys.exit("it never came through")


if __name__ == "__main__":
    main()
