"""A session that maintains the partitions of one database, one at a time.

It is a direct connection, never a pooled one: it holds a session's advisory lock, pg_partman's own,
so that neither a second run nor pg_partman's maintenance works beside it. Postgres frees the lock
when the process ends, however it ends.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg

from tenantry_schema.errors import InvalidConfig, OperationInProgress

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from tenantry_partitions.budget import Budget

#: What pg_partman 4 and 5 take before their maintenance.
PARTMAN_LOCK = "pg_partman run_maintenance"

_LOCK = "SELECT pg_try_advisory_lock(hashtext(%s))"
_HOLDER = """
SELECT activity.pid, activity.application_name
FROM pg_locks JOIN pg_stat_activity AS activity USING (pid)
WHERE locktype = 'advisory' AND objsubid = 1 AND granted
    AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND (classid::bigint << 32 | objid::bigint)::bigint = hashtext(%s)::bigint
"""
_SERVER = """
SELECT pg_is_in_recovery(), (SELECT setting::int FROM pg_settings WHERE name = 'deadlock_timeout')
"""
_SET = """
SELECT set_config(name, value, false) FROM unnest(%s::text[], %s::text[]) AS it (name, value)
"""
_SETTINGS = {
    # Everything that is printed, parsed or hashed means the same everywhere.
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "search_path": "",
    # Rows that a policy hides would be missing from an archive without a word: refuse instead.
    "row_security": "off",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "60s",
    # The statement of a killed client ends soon, and its lock with it.
    "client_connection_check_interval": "1s",
}
# A host that has vanished is noticed in a minute, also in the middle of a statement.
_CONNECTION: dict[str, Any] = {
    "application_name": "tenantry-partitions",
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
_PAUSE = 0.2


@contextmanager
def maintenance(
    conninfo: str, budget: Budget, *, patience: float = 5.0
) -> Iterator[psycopg.Connection[Any]]:
    """Connect directly, prepare the session, and hold pg_partman's lock.

    :param patience: seconds to wait for another run to end
    :raises OperationInProgress: when another run, or pg_partman, is at work
    :raises InvalidConfig: on a replica, or when the lock timeout is not below deadlock_timeout
    """
    with connect(conninfo, budget) as conn:
        _take_turn(conn, patience)
        yield conn


def connect(conninfo: str, budget: Budget) -> psycopg.Connection[Any]:
    """Connect directly, and prepare the session."""
    conn = psycopg.connect(conninfo, autocommit=True, **_CONNECTION)
    try:
        prepare(conn, budget)
    except BaseException:
        conn.close()
        raise
    return conn


def prepare(conn: psycopg.Connection[Any], budget: Budget) -> None:
    """Set what maintenance relies on, and check that this server can be maintained."""
    row = conn.execute(_SERVER).fetchone()
    assert row is not None
    in_recovery, deadlock_ms = row
    if in_recovery:
        raise InvalidConfig("this server is a replica: name the primary")
    if budget.milliseconds >= deadlock_ms:
        raise InvalidConfig(
            f"a lock timeout of {budget.milliseconds} ms is not below the server's "
            f"deadlock_timeout of {deadlock_ms} ms: an application's statement could be chosen as "
            "the victim of a deadlock; lower it"
        )
    settings = {**_SETTINGS, "lock_timeout": f"{budget.milliseconds}ms"}
    conn.execute(
        _SET,
        (list(settings), list(settings.values())),
    )


def database_time(conn: psycopg.Connection[Any]) -> datetime:
    """Return the server's time: the machine that maintains may have any clock."""
    row = conn.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    now: datetime = row[0]
    return now


def lock_holder(conn: psycopg.Connection[Any]) -> str | None:
    """Return who holds pg_partman's lock, or None."""
    holder = conn.execute(_HOLDER, (PARTMAN_LOCK,)).fetchone()
    return None if holder is None else f"pid {holder[0]}, {holder[1] or 'unnamed'}"


def _take_turn(conn: psycopg.Connection[Any], patience: float) -> None:
    deadline = time.monotonic() + patience
    while conn.execute(_LOCK, (PARTMAN_LOCK,)).fetchone() != (True,):
        if time.monotonic() > deadline:
            raise OperationInProgress(
                "another run, or pg_partman, maintains this database's partitions "
                f"({lock_holder(conn) or 'it has just ended'}): wait for "
                "it; if it is a pooled session that has left its lock behind, end that session"
            )
        time.sleep(_PAUSE)
