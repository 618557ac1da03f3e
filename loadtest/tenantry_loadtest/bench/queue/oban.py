"""Oban for Python, which needs Python 3.12, by its own SQL over psycopg.

Its statements are read as files: importing its package would bring its client along. It claims in
batches; jobs are stored and acknowledged one by one, which its client does in one transaction.
"""

from __future__ import annotations

from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
from psycopg.types.json import Jsonb

from tenantry_loadtest.bench.queue.contestant import portions

if TYPE_CHECKING:
    from collections.abc import Sequence

_JOB: dict[str, Any] = {
    "args": Jsonb({}),
    "inserted_at": None,
    "max_attempts": 20,
    "meta": Jsonb({}),
    "priority": 0,
    "queue": "default",
    "scheduled_at": None,
    "state": "available",
    "tags": [],
    "worker": "noop",
}
_ACK = {
    "state": "completed",
    "schedule_in": None,
    "attempt_change": None,
    "error": None,
    "meta": None,
}
#: Where ``fetch_jobs.sql`` gives what an acknowledgement names.
_ID, _ATTEMPTED_AT = 0, 13


class Oban:
    """Oban 0.7: acknowledgements carry the moment of the claim."""

    name = "oban"
    batches = True

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._insert = _statement("insert_job")
        with psycopg.connect(conninfo, autocommit=True) as conn:
            # Without parameters, so that the file may hold many statements.
            conn.execute(_statement("install"))

    def enqueue(self, count: int) -> None:
        """Store jobs, a thousand in a transaction."""
        with psycopg.connect(self._conninfo) as conn, conn.cursor() as cursor:
            for n in portions(count):
                cursor.executemany(self._insert, [_JOB] * n)
                conn.commit()

    def hand(self) -> _ObanHand:
        """Connect."""
        return _ObanHand(self._conninfo)


class _ObanHand:
    def __init__(self, conninfo: str) -> None:
        self._conn = psycopg.connect(conninfo)
        self._fetch, self._ack = _statement("fetch_jobs"), _statement("ack_job")
        self._asked = {"queue": "default", "attempted_by": ["bench", str(uuid4())]}

    def take(self, most: int) -> Sequence[Any]:
        rows = self._conn.execute(self._fetch, {**self._asked, "demand": most}).fetchall()
        self._conn.commit()
        return rows

    def finish(self, jobs: Sequence[Any]) -> None:
        acks = [{**_ACK, "id": job[_ID], "attempted_at": job[_ATTEMPTED_AT]} for job in jobs]
        with self._conn.cursor() as cursor:
            cursor.executemany(self._ack, acks)
        self._conn.commit()

    def close(self) -> None:
        self._conn.close()


def _statement(name: str) -> bytes:
    return Path(str(distribution("oban").locate_file(f"oban/queries/{name}.sql"))).read_bytes()
