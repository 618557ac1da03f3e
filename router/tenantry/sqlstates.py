"""What an error of the database means to a router: pure decisions on SQLSTATEs.

Postgres documentation, appendix A (error codes).
"""

from __future__ import annotations

import psycopg
from sqlalchemy.exc import DBAPIError

# A bucket that went away is not there by name, or not reachable: undefined_table,
# invalid_schema_name, insufficient_privilege. Anything else is the caller's own affair.
_FENCE = frozenset({"42P01", "3F000", "42501"})

# serialization_failure, deadlock_detected, lock_not_available: the transaction was rolled back.
_RETRYABLE = frozenset({"40001", "40P01", "55P03"})

_FOREIGN_KEY_VIOLATION = "23503"

#: The ending of the name of every foreign key to a tenant's own row.
TENANT_FKEY = "_tenant_fkey"


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
    found = database_error(error)
    if found is None or found.sqlstate != _FOREIGN_KEY_VIOLATION:
        return False
    return (found.diag.constraint_name or "").endswith(TENANT_FKEY)
