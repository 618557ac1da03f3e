"""What an error of the database means to a router: pure decisions on SQLSTATEs.

Postgres documentation, appendix A (error codes).
"""

from __future__ import annotations

import psycopg
from sqlalchemy.exc import DBAPIError

from tenantry.errors import Unavailable
from tenantry_schema.naming import OPERATION_KEYS

# A bucket that went away is not there by name, or not reachable: undefined_table,
# invalid_schema_name, insufficient_privilege. Anything else is the caller's own affair.
_FENCE = frozenset({"42P01", "3F000", "42501"})

# serialization_failure, deadlock_detected, lock_not_available: the transaction was rolled back.
_RETRYABLE = frozenset({"40001", "40P01", "55P03"})

# What a replica says when replay needed what a read was using: conflicts come as serialization
# failures or cancelled statements (Postgres documentation, 26.4.2).
_INTERRUPTED = frozenset({"40001", "40P01", "57014"})

_FOREIGN_KEY_VIOLATION = "23503"
_UNIQUE_VIOLATION = "23505"
_READ_ONLY = "25006"
_DISK_FULL = "53100"
# Class 54, program_limit_exceeded and its kin.
_OVER_LIMIT = "54"

#: The ending of the name of every foreign key to a tenant's own row.
TENANT_FKEY = "_tenant_fkey"
#: The shipped foreign keys to an agent, and to an actor.
AGENT_FKEYS = frozenset({"actors_agent_fkey", "tasks_agent_fkey", "schedules_agent_fkey"})
ACTOR_FKEYS = frozenset({"tasks_actor_fkey"})


def database_error(error: BaseException) -> psycopg.Error | None:
    """Return the driver's error, also from inside SQLAlchemy's, or None."""
    if isinstance(error, psycopg.Error):
        return error
    if isinstance(error, DBAPIError):
        original = error.orig
        if isinstance(original, psycopg.Error):
            return original
        # SQLAlchemy's async adapter chains the driver's error under its own class.
        cause = getattr(original, "__cause__", None)
        return cause if isinstance(cause, psycopg.Error) else None
    return None


def is_fence(error: BaseException) -> bool:
    """Say whether the error may mean that the bucket is no longer served here."""
    found = database_error(error)
    return found is not None and found.sqlstate in _FENCE


def is_retryable(error: BaseException) -> bool:
    """Say whether the transaction was certainly rolled back and may succeed when run anew."""
    found = database_error(error)
    return found is not None and found.sqlstate in _RETRYABLE


def is_unknown_tenant(error: BaseException) -> bool:
    """Say whether Postgres refused a row because its tenant does not live in this bucket."""
    return _broken_key(error).endswith(TENANT_FKEY)


def is_unknown_agent(error: BaseException) -> bool:
    """Say whether Postgres refused a shipped row because it names an agent that is not there."""
    return _broken_key(error) in AGENT_FKEYS


def is_unknown_actor(error: BaseException) -> bool:
    """Say whether Postgres refused a shipped row because it names an actor that is not there."""
    return _broken_key(error) in ACTOR_FKEYS


def is_done_before(error: BaseException) -> bool:
    """Say whether the operation's key was there already."""
    found = database_error(error)
    if found is None or found.sqlstate != _UNIQUE_VIOLATION:
        return False
    return found.diag.constraint_name == f"{OPERATION_KEYS}_pkey"


def is_interrupted(error: BaseException) -> bool:
    """Say whether a replica ended a read that may succeed elsewhere."""
    found = database_error(error)
    return found is not None and (found.sqlstate in _INTERRUPTED or is_lost(error))


def is_read_only(error: BaseException) -> bool:
    """Say whether a write was refused because its transaction may only read."""
    found = database_error(error)
    return found is not None and found.sqlstate == _READ_ONLY


def is_disk_full(error: BaseException) -> bool:
    """Say whether the server has no room left for what was written."""
    found = database_error(error)
    return found is not None and found.sqlstate == _DISK_FULL


def is_over_limit(error: BaseException) -> bool:
    """Say whether more was asked than Postgres can do, however often it is tried."""
    found = database_error(error)
    return found is not None and (found.sqlstate or "").startswith(_OVER_LIMIT)


def is_lost(error: BaseException) -> bool:
    """Say whether the connection was lost."""
    found = database_error(error)
    if found is None:
        return False
    # The driver's own errors about a broken stream carry no SQLSTATE; class 57P is a server that
    # is shut down, restarted or ended the session.
    lost_stream = isinstance(found, psycopg.OperationalError) and found.sqlstate is None
    return lost_stream or (found.sqlstate or "").startswith(("57P", "08"))


def refusal_within(error: BaseException) -> Unavailable | None:
    """Return our own refusal of a server that psycopg took for its socket's end, or None.

    It takes every OSError so that is raised while it waits, which :class:`Unavailable` is.
    """
    found = database_error(error)
    cause = None if found is None else found.__cause__
    return cause if isinstance(cause, Unavailable) else None


def first_line(error: BaseException) -> str:
    """Return the first line of what the database said."""
    return (str(database_error(error) or error).splitlines() or [type(error).__name__])[0]


def _broken_key(error: BaseException) -> str:
    """Return the name of the foreign key that refused a row, or nothing."""
    found = database_error(error)
    if found is None or found.sqlstate != _FOREIGN_KEY_VIOLATION:
        return ""
    return found.diag.constraint_name or ""
