"""Other queues by their own clients, as services use them: each worker has an event loop.

PgQueuer builds its SQL inside its client, so there is no other way to run it.
"""

from __future__ import annotations

import asyncio
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

import psycopg

from tenantry_loadtest.bench.queue.contestant import portions
from tenantry_loadtest.bench.queue.peers import Procrastinate

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from tenantry_loadtest.bench.queue.contestant import Hand


class ProcrastinateClient(Procrastinate):
    """procrastinate 3: its job manager on a pool of its own."""

    name = "procrastinate, its client"

    def hand(self) -> Hand:
        """Connect, with an event loop, and register a worker."""
        return _ProcrastinateHand(self._conninfo)


class PgQueuer:
    """PgQueuer: done jobs move to its log."""

    name = "pgqueuer"
    batches = True

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        with _PgQueuerHand(conninfo) as hand:
            hand.do(hand.queries.install())

    def enqueue(self, count: int) -> None:
        """Store jobs by its own client."""
        with _PgQueuerHand(self._conninfo) as hand:
            for n in portions(count):
                hand.do(hand.queries.enqueue(["noop"] * n, [None] * n, [0] * n))

    def hand(self) -> _PgQueuerHand:
        """Connect, with an event loop."""
        return _PgQueuerHand(self._conninfo)


class _Looped:
    """A worker with an event loop of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()

    def do(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self._loop.run_until_complete(coroutine)

    def close(self) -> None:
        self._loop.close()


class _ProcrastinateHand(_Looped):
    def __init__(self, conninfo: str) -> None:
        from procrastinate import PsycopgConnector  # noqa: PLC0415  an optional peer
        from procrastinate.jobs import Status  # noqa: PLC0415
        from procrastinate.manager import JobManager  # noqa: PLC0415

        super().__init__()
        self._connector = PsycopgConnector(conninfo=conninfo, min_size=1, max_size=1)
        self.do(self._connector.open_async())
        self._jobs, self._done = JobManager(self._connector), Status.SUCCEEDED
        self._worker = self.do(self._jobs.register_worker())

    def take(self, most: int) -> Sequence[Any]:
        del most
        job = self.do(self._jobs.fetch_job(None, self._worker))
        return [] if job is None else [job]

    def finish(self, jobs: Sequence[Any]) -> None:
        for job in jobs:
            self.do(self._jobs.finish_job(job, self._done, delete_job=False))

    def close(self) -> None:
        self.do(self._connector.close_async())
        super().close()


class _PgQueuerHand(_Looped):
    def __init__(self, conninfo: str) -> None:
        from pgqueuer.adapters.drivers.psycopg import (  # noqa: PLC0415  an optional peer
            PsycopgDriver,
        )
        from pgqueuer.adapters.persistence.queries import Queries  # noqa: PLC0415
        from pgqueuer.ports.repository import (  # noqa: PLC0415
            EntrypointExecutionParameter,
        )

        super().__init__()
        self._conn = self.do(psycopg.AsyncConnection.connect(conninfo, autocommit=True))
        self.queries: Any = self.do(_made(PsycopgDriver, Queries, self._conn))
        self._served = {"noop": EntrypointExecutionParameter(concurrency_limit=0)}
        self._id = uuid.uuid4()

    def take(self, most: int) -> Sequence[Any]:
        patience = timedelta(seconds=60)
        found: Sequence[Any] = self.do(
            self.queries.dequeue(most, self._served, self._id, None, patience)
        )
        return found

    def finish(self, jobs: Sequence[Any]) -> None:
        self.do(self.queries.log_jobs([(job, "successful", None) for job in jobs]))

    def close(self) -> None:
        self.do(self._conn.close())
        super().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


async def _made(driver: Any, queries: Any, conn: Any) -> Any:
    return queries(driver(conn))
