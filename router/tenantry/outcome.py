"""What became of a COMMIT that was not acknowledged (design, section 5a): one text, both doors.

With an operation's key the key is inserted again: that waits for a transaction that is still in
flight, where a mere look would be too early, and it is as right on a new primary. Without one the
transaction's id is looked up, but only on the timeline that gave it: after a failover Postgres
calls a lost transaction committed as soon as its number has been used again.

What was committed counts only when it is as durable as a commit of now: so a later record is
committed behind it, and acknowledged.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from tenantry.prelude import enter_operation
from tenantry_schema.query import Query

if TYPE_CHECKING:
    from tenantry.errors import OutcomeUnknown
    from tenantry_schema.query import Work

_HERE = """
SELECT system_identifier::text,
    substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8)
FROM pg_control_system()
"""
# The key of a transaction in flight is waited for; so long, and then its holder is looked at.
_PATIENCE = "SET LOCAL lock_timeout = '1s'"
_UNLESS_THERE = sql.SQL(" ON CONFLICT DO NOTHING RETURNING key")
_STATUS = "SELECT pg_xact_status(%s::text::xid8)"
# A session that waits for a standby is left alone: it would become visible unreplicated.
_END_ORPHAN = """
SELECT pg_terminate_backend(pid, 5000)
FROM pg_stat_activity
WHERE pid = %s AND backend_start = %s::text::timestamptz
    AND usename = current_user AND state = 'idle in transaction'
"""
_PAUSE = "SELECT pg_sleep(0.05)"
_BARRIER = "SELECT pg_logical_emit_message(true, 'tenantry', '')"


class Outcome(Enum):
    """What became of it."""

    #: It happened, and is as durable as any commit acknowledged now.
    COMMITTED = "committed"
    #: It did not happen, and never will.
    ROLLED_BACK = "rolled back"
    #: Nobody can say: a failover came between, or the transaction's id was never told.
    UNKNOWN = "unknown"


def find_out(error: OutcomeUnknown, key_type: str) -> Work[Outcome]:
    """Find out what became of a COMMIT; to be run on the tenant's primary, in a transaction.

    Waits until it is decided: the caller's deadline bounds that.
    """
    if error.operation is not None:
        found = yield from _by_operation(error.operation, key_type, error.backend)
    else:
        found = yield from _by_id(error)
    if found is Outcome.COMMITTED:
        yield Query(_BARRIER)
    return found


def _by_operation(operation: str, key_type: str, backend: tuple[int, str] | None) -> Work[Outcome]:
    enter = enter_operation(operation, key_type) + _UNLESS_THERE
    yield Query(_PATIENCE)
    while True:
        yield Query("SAVEPOINT asking")
        try:
            rows = yield Query(enter)
        except psycopg.errors.LockNotAvailable:
            yield Query("ROLLBACK TO SAVEPOINT asking")
            yield from _end_orphan(backend)
            continue
        yield Query("ROLLBACK TO SAVEPOINT asking")
        return Outcome.ROLLED_BACK if rows else Outcome.COMMITTED


def _by_id(error: OutcomeUnknown) -> Work[Outcome]:
    ((system, timeline),) = yield Query(_HERE)
    same = (int(system), int(timeline, 16)) == (error.system, error.timeline)
    if error.xid is None or not same:
        return Outcome.UNKNOWN
    while True:
        ((status,),) = yield Query(_STATUS, (error.xid,))
        if status != "in progress":
            break
        yield from _end_orphan(error.backend)
        yield Query(_PAUSE)
    known = {"committed": Outcome.COMMITTED, "aborted": Outcome.ROLLED_BACK}
    return known.get(status, Outcome.UNKNOWN)


def _end_orphan(backend: tuple[int, str] | None) -> Work[None]:
    """End the session that the COMMIT never reached: nobody will send it one any more."""
    if backend is not None:
        yield Query(_END_ORPHAN, backend)
