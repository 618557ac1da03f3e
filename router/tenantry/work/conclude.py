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
from tenantry.sqlstates import is_fence, is_over_limit
from tenantry.work.flow import Landing, Pause, Run
from tenantry.work.job import Effects
from tenantry.work.together import Together, Told
from tenantry_schema.store.endings import Finish, fail, finish, finish_free, finish_with

if TYPE_CHECKING:
    from uuid import UUID

    from tenantry.work.flow import Flow
    from tenantry.work.job import Job
    from tenantry_schema.query import WorkFactory

logger = logging.getLogger("tenantry")

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 2.0
#: How long a finish waits for the flight before its own: then it goes alone.
_OVERDUE_S = 0.5
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
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._together: Together[Finish] = Together()

    def conclude(self, job: Job, ending: WorkFactory[Any]) -> Flow[None]:
        """End an attempt."""
        if not isinstance(ending, Finish):
            yield from self._alone(job, ending)
            return
        told = yield from self._ride(job.claim.tenant, ending)
        if told is Told.ALONE:
            yield from self._alone(job, ending)

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
        return fail(job.claim, _described(error))

    def _ride(self, tenant: UUID, finish: Finish) -> Flow[Told]:
        seat = self._together.board(tenant, finish)
        try:
            while not seat.told.done():
                yield Landing(seat.told, _OVERDUE_S)
                if not seat.told.done() and self._together.leave(tenant, seat):
                    return Told.ALONE
            told = seat.told.result()
            return (yield from self._fly(tenant)) if told is Told.PILOT else told
        except BaseException:
            self._together.abandon(tenant, seat)
            raise

    def _fly(self, tenant: UUID) -> Flow[Told]:
        """Finish by one statement what waits; tell the others, and return what became of one's own.

        Whose claim is gone or whose row is held by somebody tries alone, and so does everybody when
        the statement fails: Postgres may refuse one of the results.
        """
        seats = self._together.take_off(tenant)
        told = dict.fromkeys(seats, Told.ALONE)
        try:
            left = yield Run(tenant, finish_free([it.one for it in seats]))
            told = {it: Told.ALONE if it.one.claim.id in left else Told.DONE for it in seats}
        except Exception as error:
            logger.info("%d tasks of tenant %s are not finished yet: %s", len(seats), tenant, error)
        finally:
            self._together.land(tenant, told.items())
        return told[seats[0]]

    def _alone(self, job: Job, ending: WorkFactory[Any]) -> Flow[None]:
        until = job.expires
        try:
            yield from self._end(job, ending, until)
        except Exception as error:
            # The work of its effects raised, or Postgres refuses what it returned.
            yield from self._end(job, self.failed(job, error), until)

    def _end(self, job: Job, ending: WorkFactory[Any], until: float) -> Flow[None]:
        """Run an ending; again when that may pass, until a moment on the monotonic clock."""
        pause = _FIRST_PAUSE_S
        while True:
            try:
                yield Run(job.claim.tenant, ending)
            except LeaseLost as error:
                if error.task != job.claim.id:
                    # What its effects are about is theirs.
                    raise
                logger.warning("%s", error)
            except Exception as error:
                # A service's own work may name what is not there; a finish names what was.
                passes = _may_pass(error) or (isinstance(ending, Finish) and is_fence(error))
                if not passes:
                    raise
                if not job.lost and time.monotonic() + pause < until:
                    yield Pause(pause)
                    pause = min(pause * 2, _LONGEST_PAUSE_S)
                    continue
                logger.warning("task %s is left to its lease: %s", job.claim.id, error)
            return


def _may_pass(error: Exception) -> bool:
    """Say whether an ending may go through when it is tried again."""
    return isinstance(error, _PASSING) and not is_over_limit(error)


def _described(error: BaseException) -> str:
    """Return what an error says, as text that Postgres can hold."""
    try:
        said = f"{type(error).__name__}: {error}"
    except Exception:
        said = f"{type(error).__name__} (which cannot be printed)"
    return said.encode("utf-8", "backslashreplace").decode()
