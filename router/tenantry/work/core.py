"""What both workers share: whose turn it is, what is held, and the flows over it.

A worker trusts its own monotonic clock only for stopping early: a claim counts as lost for a job as
soon as its lease, measured from before the claim was sent, has run out here. Whether it is lost is
Postgres's word, which every write of the claim asks for.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg

from tenantry.errors import (
    BucketMoved,
    DeadlineExceeded,
    InvalidInput,
    LeaseLost,
    OutcomeUnknown,
    RouterClosed,
    TenantryError,
    Unavailable,
)
from tenantry.work.flow import Pause, Run, Sweep
from tenantry.work.ring import Ring, Turn
from tenantry_schema.store import checks, claims, schedules
from tenantry_schema.store.ids import new_id

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from tenantry.work.flow import Flow
    from tenantry_schema.query import WorkFactory
    from tenantry_schema.store.rows import Claim

logger = logging.getLogger("tenantry")

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 2.0
#: What may end otherwise when it is tried again.
_PASSING = (Unavailable, OutcomeUnknown, DeadlineExceeded, BucketMoved, psycopg.Error)
#: What is one tenant's, or one moment's: a worker goes on.
_TROUBLE = (TenantryError, psycopg.Error)


def default_name() -> str:
    """Return a name that no other worker has: it is part of what proves a claim."""
    return f"{socket.gethostname()[:60]}:{os.getpid()}:{new_id().hex}"


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """What a worker can be told.

    :ivar queues: the queues that it serves
    :ivar tenants: the tenants that it serves, or None for all of the fleet's
    :ivar concurrency: how many tasks it runs at once
    :ivar lease: seconds that a claim holds; it is renewed at a third of them
    :ivar poll: seconds between two looks at the shards when nothing wakes the worker
    :ivar drain: seconds that running tasks get to end when the worker stops
    :ivar listen: whether to hold a connection to each shard that hears of new tasks
    :ivar redis: the URL of a Redis on whose channel new tasks are told, or None
    :ivar name: the owner's name of its claims: no two workers may share one, ever
    """

    queues: Sequence[str] = ("default",)
    tenants: Collection[UUID] | None = None
    concurrency: int = 8
    lease: float = 60.0
    poll: float = 1.0
    drain: float = 30.0
    listen: bool = True
    redis: str | None = field(default=None, repr=False)
    name: str = field(default_factory=default_name)

    def __post_init__(self) -> None:
        if isinstance(self.queues, str) or not self.queues:
            raise InvalidInput(f"queues= takes one name or more, not {self.queues!r:.60}")
        for queue in self.queues:
            checks.queue(queue)
        for tenant in self.tenants or ():
            checks.uuid("tenants", tenant)
        checks.whole("concurrency", self.concurrency, least=1, most=claims.LARGEST_BATCH)
        checks.lease(self.lease)
        checks.span("poll", self.poll, least=timedelta(milliseconds=10))
        checks.span("drain", self.drain)
        checks.text("name", self.name, most=200)


@dataclass(frozen=True, slots=True)
class Effects:
    """What a handler returns to have its effects committed with the task's finish, or not at all.

    :ivar work: a factory of a work, run in the tenant's transaction; it returns the task's result
    """

    work: WorkFactory[Any]


class Job:
    """A task that a worker runs.

    :ivar claim: the claim; its payload is what the task was submitted with
    """

    def __init__(self, claim: Claim, expires: float) -> None:
        self.claim = claim
        self.expires = expires
        self._lost = threading.Event()

    @property
    def payload(self) -> dict[str, Any]:
        """What the task was submitted with."""
        return self.claim.payload

    @property
    def lost(self) -> bool:
        """Whether the claim is gone: stop, nothing of the task will be accepted any more."""
        return self._lost.is_set() or time.monotonic() > self.expires

    def lose(self) -> None:
        """Let the job know that its claim is gone."""
        self._lost.set()


class WorkerCore:
    """The state of a worker; the doors add threads or tasks."""

    def __init__(self, options: WorkerOptions) -> None:
        self.options = options
        self.ring = Ring()
        self.held: dict[UUID, Job] = {}
        self._lock = threading.Lock()

    def heard(self, message: str) -> bool:
        """Take in ``<tenant> <queue>`` from a channel; say whether it concerns this worker."""
        tenant, _, queue = message.partition(" ")
        try:
            turn = Turn(UUID(tenant), queue)
        except ValueError:
            logger.warning("a message that names no tenant was heard: %.80r", message)
            return False
        mine = self.options.tenants is None or turn.tenant in self.options.tenants
        if not mine or queue not in self.options.queues:
            return False
        with self._lock:
            self.ring.offer([turn])
        return True

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
        turns = [Turn(*row) for row in found.all() if tenants is None or row[0] in tenants]
        with self._lock:
            self.ring.offer(turns)

    def next_jobs(self, most: int) -> Flow[list[Job]]:
        """Claim for the next tenant that has something: at most so many of its tasks."""
        while (turn := self._take()) is not None:
            try:
                jobs = yield from self._claim(turn, most)
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
                job.expires = began + self.options.lease
                if job.claim.id in gone and job.claim.id in self.held:
                    job.lose()
                    lost.append(job)
        return lost

    def conclude(self, job: Job, ending: WorkFactory[Any]) -> Flow[None]:
        """Finish or fail a task; try again, while the lease may hold, what did not get through."""
        claim, pause = job.claim, _FIRST_PAUSE_S
        while True:
            try:
                yield Run(claim.tenant, ending)
            except LeaseLost as error:
                logger.warning("%s", error)
            except _PASSING as error:
                if time.monotonic() + pause < job.expires:
                    yield Pause(pause)
                    pause = min(pause * 2, _LONGEST_PAUSE_S)
                    continue
                logger.warning("task %s is left to its lease: %s", claim.id, error)
            return

    def release(self) -> Flow[None]:
        """Give back what is still held: the worker stops."""
        for tenant, jobs in self._by_tenant().items():
            for job in jobs:
                job.lose()
            try:
                yield Run(tenant, claims.release([job.claim for job in jobs]))
            except _TROUBLE as error:
                logger.warning("claims of tenant %s are left to their leases: %s", tenant, error)

    def drop(self, job: Job) -> None:
        """Hold a job no longer."""
        with self._lock:
            self.held.pop(job.claim.id, None)

    def finished(self, job: Job, result: Any) -> WorkFactory[Any]:
        """Return what ends a task whose callable returned."""
        if isinstance(result, Effects):
            return claims.finish_with(job.claim, result.work)
        try:
            return claims.finish(job.claim, result)
        except InvalidInput as error:
            return claims.fail(job.claim, f"its result cannot be stored: {error}", retry=False)

    def missing(self, job: Job) -> WorkFactory[Any]:
        """Return what ends an attempt for which this worker has no callable: it is tried again."""
        return self.failed(job, LookupError(f"{self.options.name} has no handler for its kind"))

    def failed(self, job: Job, error: BaseException) -> WorkFactory[Any]:
        """Return what ends an attempt whose callable raised."""
        logger.info("task %s (%s) failed", job.claim.id, job.claim.kind, exc_info=error)
        return claims.fail(job.claim, f"{type(error).__name__}: {error}")

    def _claim(self, turn: Turn, most: int) -> Flow[list[Job]]:
        if turn.queue is None:
            yield Run(turn.tenant, schedules.fire_due(turn.tenant))
            self._offer(Turn(turn.tenant, queue) for queue in self.options.queues)
            return []
        # Few different numbers are prepared for: each is a statement of its own.
        most = 1 << most.bit_length() - 1
        began = time.monotonic()
        found = yield Run(
            turn.tenant,
            claims.claim(
                turn.tenant,
                self.options.name,
                queue=turn.queue,
                most=most,
                lease=self.options.lease,
            ),
        )
        if len(found) == most:
            self._offer([turn])
        jobs = [Job(claim, began + self.options.lease) for claim in found]
        with self._lock:
            self.held.update((job.claim.id, job) for job in jobs)
        return jobs

    def _take(self) -> Turn | None:
        with self._lock:
            return self.ring.take()

    def _offer(self, turns: Any) -> None:
        with self._lock:
            self.ring.offer(turns)

    def _by_tenant(self) -> dict[UUID, list[Job]]:
        found: dict[UUID, list[Job]] = {}
        with self._lock:
            for job in self.held.values():
                found.setdefault(job.claim.tenant, []).append(job)
        return found
