"""A process that resumes what another one paused, when that one dies or holds it for too long.

PgBouncer keeps a database paused after the connection that paused it is gone, for ever. So whoever
pauses starts this program first, and talks to its standard input:

1. One line of JSON: conninfos of consoles, for each database the command that resumes it, and the
   lease in seconds (:class:`Told`). It answers ``ready``; not before that is anything paused.
2. ``done``: everything was resumed, it ends. Or ``held``: from here on only the lease counts.
3. End of input before either of them: the other process is gone, so it resumes at once.

At the end of the lease it resumes whatever is still paused, and tries again until it could. It
imports nothing of ours, because everybody waits for its start.
"""

from __future__ import annotations

import json
import select
import sys
import time
from typing import IO, TypedDict

import psycopg
from psycopg.rows import dict_row

_LOOK_S = 0.5
#: How long it goes on trying to resume at a console that does not answer.
_PATIENCE_S = 600.0


class Told(TypedDict):
    """What it is told at its start."""

    consoles: list[str]
    resume: dict[str, str]
    lease: float


def watch(told: Told, orders: IO[str]) -> None:
    """Do what the module says."""
    until = time.monotonic() + told["lease"]
    held = False
    while time.monotonic() < until:
        if held:
            if not _still_paused(told):
                return
            time.sleep(_LOOK_S)
        elif select.select([orders], [], [], max(0.0, until - time.monotonic()))[0]:
            order = orders.readline().strip()
            if order == "done":
                return
            if order != "held":
                break
            held = True
    _resume(told)


def _still_paused(told: Told) -> bool:
    """Say whether any is paused; one that cannot be asked may be."""
    try:
        return any(_paused(_connect(it), told) for it in told["consoles"])
    except psycopg.Error:
        return True


def _resume(told: Told) -> None:
    left = set(told["consoles"])
    until = time.monotonic() + _PATIENCE_S
    while left and time.monotonic() < until:
        left = {it for it in left if not _resumed(it, told)}
        if left:
            time.sleep(_LOOK_S)


def _resumed(conninfo: str, told: Told) -> bool:
    try:
        for database in _paused(_connect(conninfo), told):
            with _connect(conninfo) as conn:
                conn.execute(told["resume"][database].encode())
    except psycopg.Error:
        # The console is gone, or somebody else was faster: look again.
        return False
    return True


def _paused(conn: psycopg.Connection[dict[str, object]], told: Told) -> list[str]:
    with conn:
        rows = conn.execute("SHOW DATABASES").fetchall()
    return [str(row["name"]) for row in rows if row["paused"] and row["name"] in told["resume"]]


def _connect(conninfo: str) -> psycopg.Connection[dict[str, object]]:
    # The console speaks no extended protocol.
    return psycopg.connect(conninfo, autocommit=True, prepare_threshold=None, row_factory=dict_row)


if __name__ == "__main__":
    given: Told = json.loads(sys.stdin.readline())
    print("ready", flush=True)  # noqa: T201  the protocol
    watch(given, sys.stdin)
