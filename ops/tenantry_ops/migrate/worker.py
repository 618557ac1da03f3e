"""Upgrade databases, each in a fork of this process, which has one thread and no connection.

For every database a socket arrives on standard input. What to do is read from it as JSON, so that
no connection string is seen in the list of processes, and the answer is written to it. A lock that
is held too long is waited for in short attempts, with nothing held between.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import sys
import time
import traceback
from typing import Any

import psycopg
from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError

import tenantry_partitions.operations  # noqa: F401  registers `op.set_partition_policy`
from tenantry_ops.engine import engine_of
from tenantry_ops.models import layout_of
from tenantry_schema.errors import TenantryError
from tenantry_schema.migrations import History, current_revisions, upgrade

_LOCK_NOT_AVAILABLE = "55P03"

# A command that was killed may have left its worker at work: the next one waits for it to end.
_ALONE = """
SET lock_timeout = '200ms';
SELECT pg_advisory_lock(hashtext('tenantry upgrade'))
"""


def main() -> None:
    """Serve until the caller is gone; what is under way then ends with this process."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(fileno=sys.stdin.fileno()) as control:
        while True:
            word, handles, _, _ = socket.recv_fds(control, 1, 1)
            if not word:
                break
            with socket.socket(fileno=handles[0]) as caller:
                if os.fork() == 0:
                    _serve(caller)
    # A session of its own was started for this process: its group is its children.
    os.killpg(0, signal.SIGKILL)


def _serve(caller: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        with caller.makefile("rb") as asked:
            told = json.loads(asked.read())
        caller.sendall(json.dumps(_answer(told)).encode())
    finally:
        sys.stdout.flush()
        os._exit(0)


def _answer(told: dict[str, Any]) -> dict[str, Any]:
    sys.path[:] = told["path"]
    try:
        return {"revisions": _patiently(told)}
    except DBAPIError as error:
        return {"reason": f"{error.orig}".strip()}
    except (psycopg.OperationalError, CommandError, TenantryError) as error:
        return {"reason": f"{error}".strip()}
    except Exception:
        # A fault of a revision: where it is counts.
        return {"reason": traceback.format_exc().strip()}


def _patiently(told: dict[str, Any]) -> tuple[str, ...]:
    until = time.monotonic() + told["patience"]
    while True:
        try:
            return _upgrade(told)
        except DBAPIError as error:
            state = getattr(error.orig, "sqlstate", None)
            if state != _LOCK_NOT_AVAILABLE or time.monotonic() > until:
                raise
        time.sleep(random.uniform(0.05, 0.5))  # noqa: S311  jitter is not a secret


def _upgrade(told: dict[str, Any]) -> tuple[str, ...]:
    with engine_of(told["conninfo"]).connect() as connection:
        connection.exec_driver_sql(_ALONE)
        connection.commit()
        history = History(told["history"])
        upgrade(history, connection, layout_of(told["models"]), target=told["target"])
        return current_revisions(connection)


if __name__ == "__main__":
    main()
