"""How attempts end: what their callables returned or raised is stored, by flows of both doors."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import psycopg

from tenantry.errors import (
    BucketMoved,
    DeadlineExceeded,
    InvalidInput,
    LeaseLost,
    OutcomeUnknown,
    Unavailable,
)
from tenantry.work.flow import Pause, Run
from tenantry.work.job import Effects
from tenantry.work.together import Together
from tenantry_schema.store.claims import lease_lost
from tenantry_schema.store.endings import Finish, fail, finish, finish_all, finish_with

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tenantry.work.flow import Flow
    from tenantry.work.job import Job
    from tenantry_schema.query import WorkFactory

logger = logging.getLogger("tenantry")

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 2.0
#: What may end otherwise when it is tried again.
_PASSING = (
    Unavailable,
    OutcomeUnknown,
    DeadlineExceeded,
    BucketMoved,
    psycopg.OperationalError,
    psycopg.InterfaceError,
)


class Concluder:
    """Ends attempts; finishes of one tenant fly together.

    :param name: the worker's
    :param drop: called with jobs that are held no longer
    """

    def __init__(self, name: str, drop: Callable[[Sequence[Job]], None]) -> None:
        self._name = name
        self._drop = drop
        self._together: Together[tuple[Job, Finish]] = Together()

    def conclude(self, job: Job, ending: WorkFactory[Any]) -> Flow[None]:
        """End an attempt, and hold its job no longer.

        A finish that comes while one of its tenant is in flight is left to that one's flow.
        """
        job.returned = True
        tenant = job.claim.tenant
        if not isinstance(ending, Finish):
            try:
                yield from self._alone(job, ending)
            finally:
                self._drop([job])
            return
        if self._together.join(tenant, (job, ending)):
            return
        flying = [(job, ending)]
        try:
            while flying:
                yield from self._finish(flying)
                self._drop([it for it, _ in flying])
                flying = self._together.next(tenant)
        except BaseException:
            left = [it for it, _ in (*flying, *self._together.strand(tenant))]
            self._drop(left)
            for it in left:
                logger.warning("task %s is left to its lease", it.claim.id)
            raise

    def finished(self, job: Job, result: Any) -> WorkFactory[Any]:
        """Return what ends a task whose callable returned."""
        if isinstance(result, Effects):
            return finish_with(job.claim, result.work)
        try:
            return finish(job.claim, result)
        except InvalidInput as error:
            return fail(job.claim, f"its result cannot be stored: {error}", retry=False)

    def missing(self, job: Job) -> WorkFactory[Any]:
        """Return what ends an attempt for which this worker has no callable: it is tried again."""
        return self.failed(job, LookupError(f"{self._name} has no handler for its kind"))

    def failed(self, job: Job, error: BaseException) -> WorkFactory[Any]:
        """Return what ends an attempt whose callable raised."""
        logger.info("task %s (%s) failed", job.claim.id, job.claim.kind, exc_info=error)
        return fail(job.claim, f"{type(error).__name__}: {error}")

    def _finish(self, flying: Sequence[tuple[Job, Finish]]) -> Flow[None]:
        jobs = [job for job, _ in flying]
        try:
            gone = yield from self._end(jobs, finish_all([finish for _, finish in flying]))
        except psycopg.Error:
            # It may be one result that Postgres refuses: the others must not fail with it.
            for job, finish in flying:
                yield from self._alone(job, finish)
            return
        for job in jobs:
            if job.claim.id in (gone or ()):
                logger.warning("%s", lease_lost(job.claim))

    def _alone(self, job: Job, ending: WorkFactory[Any]) -> Flow[None]:
        try:
            yield from self._end([job], ending)
        except Exception as error:
            # The work of its effects raised, or Postgres refuses what it returned.
            yield from self._end([job], self.failed(job, error))

    def _end(self, jobs: Sequence[Job], ending: WorkFactory[Any]) -> Flow[Any]:
        """Run an ending of one tenant's jobs; again, while a lease may hold, what may pass."""
        tenant, pause = jobs[0].claim.tenant, _FIRST_PAUSE_S
        while True:
            try:
                return (yield Run(tenant, ending))
            except LeaseLost as error:
                logger.warning("%s", error)
                return None
            except _PASSING as error:
                if time.monotonic() + pause > max(job.expires for job in jobs):
                    for job in jobs:
                        logger.warning("task %s is left to its lease: %s", job.claim.id, error)
                    return None
            yield Pause(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_S)
