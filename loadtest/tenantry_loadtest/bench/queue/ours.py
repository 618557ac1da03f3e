"""tenantry: through the router, with policies, keys, history and fences, as a service uses it.

And by its own SQL over psycopg, as its peers are, which tells apart what its statements and what
its router take.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg

from tenantry import tasks
from tenantry.drive import drive
from tenantry_loadtest.bench.queue.contestant import portions
from tenantry_schema.naming import TENANT_SETTING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from tenantry import Router
    from tenantry_loadtest.bench.queue.contestant import Hand

_SETTINGS = "SELECT set_config('search_path', %s, false), set_config(%s, %s, false)"


class Tenantry:
    """A tenant's queue."""

    name = "tenantry"
    batches = True

    def __init__(self, router: Router, tenant: UUID) -> None:
        self._router = router
        self._tenant = tenant

    def enqueue(self, count: int) -> None:
        """Store jobs, a thousand in a transaction."""
        for n in portions(count):
            made = [tasks.NewTask("noop") for _ in range(n)]
            self._router.run(tasks.submit(self._tenant, made, wake=False), tenant=self._tenant)

    def hand(self) -> Hand:
        """Return what a new worker holds."""
        return _Hand(self._router, self._tenant)


class Exchanging(Tenantry):
    """The same, by workers that finish in the transaction of their next claim."""

    name = "tenantry, exchanging"

    def hand(self) -> Hand:
        """Return what a new worker holds."""
        return _ExchangingHand(self._router, self._tenant)


class OwnSql(Tenantry):
    """The same statements on a connection of the worker's own, each in a transaction of its own."""

    name = "tenantry, its SQL"

    def __init__(self, router: Router, tenant: UUID, app: str) -> None:
        super().__init__(router, tenant)
        self._app = app

    def hand(self) -> Hand:
        """Connect to the tenant's bucket."""
        schema = self._router.where(tenant=self._tenant).schema
        return _OwnSqlHand(self._router, self._tenant, self._app, schema)


class _Hand:
    def __init__(self, router: Router, tenant: UUID) -> None:
        self._router = router
        self._tenant = tenant
        self._owner = f"bench {uuid4()}"

    def take(self, most: int) -> Sequence[Any]:
        claim = tasks.claim(self._tenant, self._owner, most=most)
        return self._router.run(claim, tenant=self._tenant)

    def finish(self, jobs: Sequence[Any]) -> None:
        done = tasks.finish_many([(job, None) for job in jobs])
        _refuse(self._router.run(done, tenant=self._tenant))

    def close(self) -> None:
        """Hold nothing of its own."""


class _ExchangingHand(_Hand):
    """Finished jobs are sent with the next claim, and the last ones when it is closed."""

    def __init__(self, router: Router, tenant: UUID) -> None:
        super().__init__(router, tenant)
        self._done: list[Any] = []

    def take(self, most: int) -> Sequence[Any]:
        if not self._done:
            return super().take(most)
        done = [(job, None) for job in self._done]
        exchange = tasks.exchange(done, self._owner, most=most)
        lost, found = self._router.run(exchange, tenant=self._tenant)
        _refuse(lost)
        self._done = []
        return found

    def finish(self, jobs: Sequence[Any]) -> None:
        self._done = list(jobs)

    def close(self) -> None:
        if self._done:
            super().finish(self._done)


class _OwnSqlHand(_Hand):
    def __init__(self, router: Router, tenant: UUID, app: str, schema: str) -> None:
        super().__init__(router, tenant)
        self._conn = psycopg.connect(app, autocommit=True)
        self._conn.execute(_SETTINGS, (schema, TENANT_SETTING, str(tenant)))

    def take(self, most: int) -> Sequence[Any]:
        return drive(self._conn, tasks.claim(self._tenant, self._owner, most=most)())

    def finish(self, jobs: Sequence[Any]) -> None:
        _refuse(drive(self._conn, tasks.finish_many([(job, None) for job in jobs])()))

    def close(self) -> None:
        self._conn.close()


def _refuse(lost: set[UUID]) -> None:
    if lost:
        raise RuntimeError("a claim was lost in a benchmark where nothing dies")
