"""Other queues, by their own SQL over psycopg: their clients' event loops are not measured."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any

import psycopg

from tenantry_loadtest.bench.queue.contestant import portions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tenantry_loadtest.bench.queue.contestant import Hand


class Procrastinate:
    """procrastinate 3: one job per fetch, and per finish."""

    name = "procrastinate"
    batches = False

    def __init__(self, conninfo: str) -> None:
        from procrastinate.sql import queries  # noqa: PLC0415  an optional peer

        self._conninfo = conninfo
        self._fetch = queries["fetch_job"]
        self._finish = queries["finish_job"]
        with psycopg.connect(conninfo, autocommit=True) as conn:
            conn.execute(files("procrastinate.sql").joinpath("schema.sql").read_bytes())

    def enqueue(self, count: int) -> None:
        """Store jobs by its own function."""
        with psycopg.connect(self._conninfo, autocommit=True) as conn:
            for n in portions(count):
                conn.execute(
                    "SELECT procrastinate_defer_jobs_v1(ARRAY(SELECT ROW('default', 'noop', 0, "
                    "NULL, NULL, '{}'::jsonb, NULL)::procrastinate_job_to_defer_v1 "
                    "FROM generate_series(1, %s)))",
                    (n,),
                )

    def hand(self) -> Hand:
        """Register a worker, as its own client does."""
        return _ProcrastinateHand(self._conninfo, self._fetch, self._finish)


class _ProcrastinateHand:
    def __init__(self, conninfo: str, fetch: Any, finish: Any) -> None:
        self._conn = psycopg.connect(conninfo, autocommit=True)
        self._fetch, self._finish = fetch, finish
        row = self._conn.execute(
            "INSERT INTO procrastinate_workers DEFAULT VALUES RETURNING id"
        ).fetchone()
        assert row is not None
        self._worker = row[0]

    def take(self, most: int) -> Sequence[Any]:
        del most
        named = {"queues": None, "worker_id": self._worker}
        row = self._conn.execute(self._fetch, named).fetchone()
        return [] if row is None or row[0] is None else [row[0]]

    def finish(self, jobs: Sequence[Any]) -> None:
        for job in jobs:
            self._conn.execute(
                self._finish, {"job_id": job, "status": "succeeded", "delete_job": False}
            )

    def close(self) -> None:
        self._conn.close()


class Pgmq:
    """pgmq's SQL: messages are archived when they are done, which keeps them as a row."""

    name = "pgmq"
    batches = True

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        with psycopg.connect(conninfo, autocommit=True) as conn:
            conn.execute(files("pgmq").joinpath("sql/pgmq.sql").read_bytes())
            conn.execute("SELECT pgmq.create('bench')")

    def enqueue(self, count: int) -> None:
        """Store jobs by its own function."""
        with psycopg.connect(self._conninfo, autocommit=True) as conn:
            for n in portions(count):
                conn.execute(
                    "SELECT pgmq.send_batch('bench', "
                    "ARRAY(SELECT '{}'::jsonb FROM generate_series(1, %s)))",
                    (n,),
                )

    def hand(self) -> _PgmqHand:
        """Connect."""
        return _PgmqHand(self._conninfo)


class _PgmqHand:
    def __init__(self, conninfo: str) -> None:
        self._conn = psycopg.connect(conninfo, autocommit=True)

    def take(self, most: int) -> Sequence[Any]:
        rows = self._conn.execute("SELECT msg_id FROM pgmq.read('bench', 60, %s)", (most,))
        return [row[0] for row in rows]

    def finish(self, jobs: Sequence[Any]) -> None:
        self._conn.execute("SELECT pgmq.archive('bench', %s::bigint[])", (list(jobs),))

    def close(self) -> None:
        self._conn.close()
