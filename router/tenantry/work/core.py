"""What both workers share: whose turn it is, what is held, and the flows over it.

A worker trusts its own monotonic clock only for stopping early: a claim counts as lost for a job as
soon as its lease, measured from before the claim was sent, has run out here. Whether it is lost is
Postgres's word, which every write of the claim asks for.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg

from tenantry.errors import RouterClosed, TenantryError
from tenantry.work.conclude import Concluder
from tenantry.work.flow import Run, Sweep
from tenantry.work.job import Job
from tenantry.work.ring import Ring, Turn
from tenantry_schema.store import claims, schedules
from tenantry_schema.store.endings import Finish, release

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tenantry.work.flow import Flow
    from tenantry.work.options import WorkerOptions
    from tenantry_schema.query import WorkFactory
    from tenantry_schema.store.rows import Claim

logger = logging.getLogger("tenantry")

#: What is one tenant's, or one moment's: a worker goes on.
_TROUBLE = (TenantryError, psycopg.Error)


class WorkerCore:
    """The state of a worker; the doors add threads or tasks.

    :param wake: lets the door look again whether it can claim
    """

    def __init__(self, options: WorkerOptions, wake: Callable[[], None]) -> None:
        self.options = options
        self.ring = Ring()
        self.held: dict[UUID, Job] = {}
        self._lock = threading.Lock()
        self._wake = wake
        self.concluder = Concluder(options.name)

    @property
    def room(self) -> int:
        """How many tasks may be claimed now: what is being finished no longer runs.

        So the next claim and the last finish are on their way together. Finishes that do not arrive
        hold it back, too.
        """
        with self._lock:
            running = sum(not job.finishing for job in self.held.values())
            return min(self.options.concurrency - running, self.options.most_held - len(self.held))

    def hear(self, message: str) -> None:
        """Take in ``<tenant> <queue>`` from a channel."""
        tenant, _, queue = message.partition(" ")
        try:
            turn = Turn(UUID(tenant), queue)
        except ValueError:
            logger.warning("a message that names no tenant was heard: %.80r", message)
            return
        mine = self.options.tenants is None or turn.tenant in self.options.tenants
        if mine and queue in self.options.queues:
            self._offer([turn])
            self._wake()

    def look(self) -> Flow[None]:
        """Find out who has something to do; shards that do not answer are asked again next time."""
        tenants = self.options.tenants
        try:
            found = yield Sweep(self.options.queues)
        except RouterClosed:
            raise
        except _TROUBLE as error:
            logger.warning("who has work cannot be asked: %s", error)
            return
        for shard, reason in found.failed.items():
            logger.warning("shard %s does not say who has work: %s", shard, reason)
        self._offer(Turn(*row) for row in found.all() if tenants is None or row[0] in tenants)
        self._wake()

    def next_jobs(self) -> Flow[list[Job]]:
        """Claim for the next tenant that has something, as many of its tasks as have room."""
        while (room := self.room) > 0 and (turn := self._take()) is not None:
            try:
                jobs = yield from self._claim(turn, room)
            except RouterClosed:
                raise
            except _TROUBLE as error:
                # One tenant's trouble is not the others'; the next look finds it again.
                logger.warning("nothing can be claimed for tenant %s: %s", turn.tenant, error)
                continue
            if jobs:
                return jobs
        return []

    def renew(self) -> Flow[list[Job]]:
        """Renew what is held, one statement for each tenant; give the jobs whose claim is gone."""
        lost: list[Job] = []
        for tenant, jobs in self._by_tenant().items():
            began = time.monotonic()
            claimed = [job.claim for job in jobs]
            try:
                gone = yield Run(tenant, claims.renew(claimed, lease=self.options.lease))
            except _TROUBLE as error:
                logger.warning("claims of tenant %s are not renewed: %s", tenant, error)
                continue
            for job in jobs:
                if job.claim.id not in gone:
                    job.expires = began + self.options.lease
                elif self.held.get(job.claim.id) is job:
                    job.lose()
                    lost.append(job)
        return lost

    def release(self) -> Flow[None]:
        """Give back what is still held: the worker stops."""
        for tenant, jobs in self._by_tenant().items():
            for job in jobs:
                job.lose()
            try:
                yield Run(tenant, release([job.claim for job in jobs]))
            except _TROUBLE as error:
                logger.warning("claims of tenant %s are left to their leases: %s", tenant, error)

    def makes_room(self, job: Job, ending: WorkFactory[Any]) -> bool:
        """Note how a job ends; say whether another may be claimed while that is on its way."""
        job.finishing = isinstance(ending, Finish)
        return job.finishing

    def drop(self, job: Job) -> None:
        """Hold a job no longer; a later claim of the same task stays."""
        with self._lock:
            if self.held.get(job.claim.id) is job:
                del self.held[job.claim.id]
        if job.limited:
            self._offer_all(job.claim.tenant)
        if self.room > 0 or not self.held:
            self._wake()

    def _claim(self, turn: Turn, most: int) -> Flow[list[Job]]:
        if turn.queue is None:
            yield Run(turn.tenant, schedules.fire_due(turn.tenant))
            self._offer_all(turn.tenant)
            return []
        # Few different numbers are prepared for: each is a statement of its own.
        most = 1 << most.bit_length() - 1
        began = time.monotonic()
        tenant, name = turn.tenant, self.options.name
        asked: dict[str, Any] = {"queue": turn.queue, "most": most, "lease": self.options.lease}
        taken: claims.Taken = yield Run(tenant, claims.take(tenant, name, **asked))
        if taken.limited:
            taken = yield Run(tenant, claims.take_within(tenant, name, **asked))
        if len(taken.claims) + len(taken.spent) == most:
            self._offer([turn])
        until = began + self.options.lease
        jobs = [Job(claim, until, limited=taken.limited) for claim in taken.claims]
        with self._lock:
            self.held.update((job.claim.id, job) for job in jobs)
        if taken.spent:
            yield from self._give_up(tenant, taken.spent)
        return jobs

    def _give_up(self, tenant: UUID, spent: list[Claim]) -> Flow[None]:
        try:
            yield Run(tenant, claims.give_up(spent))
        except _TROUBLE as error:
            # Their leases run out once more, and whoever claims them gives up on them.
            logger.warning("%d tasks of tenant %s are not given up: %s", len(spent), tenant, error)

    def _take(self) -> Turn | None:
        with self._lock:
            return self.ring.take()

    def _offer(self, turns: Iterable[Turn]) -> None:
        with self._lock:
            self.ring.offer(turns)

    def _offer_all(self, tenant: UUID) -> None:
        self._offer(Turn(tenant, queue) for queue in self.options.queues)

    def _by_tenant(self) -> dict[UUID, list[Job]]:
        found: dict[UUID, list[Job]] = {}
        with self._lock:
            for job in self.held.values():
                found.setdefault(job.claim.tenant, []).append(job)
        return found
