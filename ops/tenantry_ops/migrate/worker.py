"""Upgrade one database: the process that ``tenantry migrate`` starts for each.

It reads what to do as JSON from standard input, so that no connection string is seen in the list of
processes. A lock that is held too long is waited for in short attempts, with nothing held between.
"""

from __future__ import annotations

import json
import random
import sys
import time

import psycopg
from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError

from tenantry_ops.cluster import engine_of
from tenantry_ops.models import layout_of
from tenantry_schema.errors import TenantryError
from tenantry_schema.migrations import History, upgrade

_LOCK_NOT_AVAILABLE = "55P03"

# A command that was killed may have left its worker at work: the next one waits for it to end.
_ALONE = """
SET lock_timeout = '200ms';
SELECT pg_advisory_lock(hashtext('tenantry upgrade'))
"""


def main() -> None:
    """Upgrade the database that standard input describes; exit with 1 and the reason on failure."""
    told = json.load(sys.stdin)
    until = time.monotonic() + told["patience"]
    while True:
        try:
            _upgrade(told)
        except DBAPIError as error:
            state = getattr(error.orig, "sqlstate", None)
            if state != _LOCK_NOT_AVAILABLE or time.monotonic() > until:
                sys.exit(f"{error.orig}".strip())
            time.sleep(random.uniform(0.05, 0.5))  # noqa: S311  jitter is not a secret
        except (psycopg.OperationalError, CommandError, TenantryError) as error:
            sys.exit(f"{error}".strip())
        else:
            return


def _upgrade(told: dict[str, str]) -> None:
    with engine_of(told["conninfo"]).connect() as connection:
        connection.exec_driver_sql(_ALONE)
        connection.commit()
        history = History(told["history"])
        upgrade(history, connection, layout_of(told["models"]), target=told["target"])


if __name__ == "__main__":
    main()
