"""Measure that greenlets interleave: a driver that blocks would make one user of all of them.

psycopg waits by a patched ``poll`` when gevent was there first (``psycopg.waiting``), and threads
are greenlets then. A run that blocks merely looks slow: so this is measured before each.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import gevent

from tenantry_schema.errors import TenantryError

if TYPE_CHECKING:
    from tenantry import Router
    from tenantry_loadtest.history import Seat

SLEEPERS = 8
SLEEP_S = 0.2


def interleave(router: Router, seat: Seat) -> float:
    """Let several greenlets sleep in the database at once; return the seconds until all woke up.

    :raises TenantryError: when they waited for each other
    """

    def sleep() -> None:
        with router.connection(tenant=seat.key) as conn:
            conn.execute("SELECT pg_sleep(%s)", (SLEEP_S,))

    started = time.monotonic()
    gevent.joinall([gevent.spawn(sleep) for _ in range(SLEEPERS)], raise_error=True)
    taken = time.monotonic() - started
    if taken > SLEEPERS * SLEEP_S / 2:
        raise TenantryError(
            f"greenlets do not interleave: {SLEEPERS} sleeps of {SLEEP_S} s took {taken:.2f} s; "
            "was psycopg imported before gevent patched the standard library?"
        )
    return taken
