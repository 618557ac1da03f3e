"""tenantry: through the router, with policies, keys, history and fences, as a service uses it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

from tenantry import tasks

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from tenantry import Router
    from tenantry_loadtest.bench.queue.contestant import Hand

_TOGETHER = 1000


class Tenantry:
    """A tenant's queue."""

    name = "tenantry"
    batches = True

    def __init__(self, router: Router, tenant: UUID) -> None:
        self._router = router
        self._tenant = tenant

    def enqueue(self, count: int) -> None:
        """Store jobs, a thousand in a transaction."""
        for start in range(0, count, _TOGETHER):
            made = [tasks.NewTask("noop") for _ in range(min(_TOGETHER, count - start))]
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


def _refuse(lost: set[UUID]) -> None:
    if lost:
        raise RuntimeError("a claim was lost in a benchmark where nothing dies")
