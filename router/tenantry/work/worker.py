"""The sync worker: threads that run callables."""

from __future__ import annotations

import logging
import queue
import signal
import threading
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from tenantry.work.core import WorkerCore
from tenantry.work.ears import Ears
from tenantry.work.flow import perform
from tenantry.work.options import WorkerOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tenantry.router import Router
    from tenantry.work.job import Job
    from tenantry_schema.query import WorkFactory

logger = logging.getLogger("tenantry")

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Worker:
    """Claim tasks, run them in threads, and say how they ended.

    :param router: an open router; its pool should have a connection for each task at once, and a
        few more for claims and finishes
    :param handlers: a callable for each kind of task; it is called with a
        :class:`~tenantry.work.job.Job`, its result is the task's, and what it raises fails the
        attempt
    :param options: the fields of :class:`~tenantry.work.options.WorkerOptions`
    :raises InvalidInput: for an option that cannot be used

    A task may run more than once when a worker dies or hangs, but only the owner of its claim can
    finish it: make its effects in the transaction of the finish, or idempotent.
    """

    def __init__(
        self, router: Router, handlers: Mapping[str, Callable[[Job], Any]], **options: Any
    ) -> None:
        self._router = router
        self._handlers = dict(handlers)
        self._core = WorkerCore(WorkerOptions(**options), self._wake)
        # What a signal's handler does must be allowed anywhere in this thread: an assignment, and
        # the put of a SimpleQueue, which is reentrant. Events are not.
        self._asked_to_stop = False
        self._wakes: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self._broken: list[Exception] = []
        #: Held by the one thread that claims. Reentrant, because an interrupt may come between the
        #: main thread's taking it and what would give it back.
        self._claiming = threading.RLock()
        #: What the threads that run callables are to do next, or None to end.
        self._todo: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()

    @property
    def name(self) -> str:
        """The owner's name of its claims."""
        return self._core.options.name

    def stop(self) -> None:
        """Claim no more, let running tasks end, and return from :meth:`run`; from any thread."""
        self._asked_to_stop = True
        self._wake()

    def run(self, *, signals: bool = True) -> None:
        """Work until :meth:`stop`, SIGTERM or SIGINT.

        :param signals: whether the two signals stop it, while it runs in the main thread
        """
        before = list(self._catch(signals))
        ears = Ears(self._addresses(), self._core.options.redis, self._core.hear)
        threads = [threading.Thread(target=self._work, daemon=True) for _ in self._slots()]
        beside = [self._beside(it) for it in (self._look_around, self._heartbeat)]
        ears.open()
        try:
            for thread in threads + beside:
                thread.start()
            self._claim_until_stopped()
        finally:
            self._asked_to_stop = True
            self._stopping.set()
            ears.close()
            with self._claiming:
                # Who claimed meanwhile did so for the last time.
                pass
            self._drain()
            for thread in beside:
                thread.join()
            for number, handler in before:
                signal.signal(number, handler)
        if self._broken:
            raise self._broken[0]

    def _claim_until_stopped(self) -> None:
        while not self._asked_to_stop:
            self._settle()
            jobs = self._claim()
            for job in jobs:
                self._todo.put(partial(self._run, job))
            if not jobs:
                self._wait(None)

    def _claim(self) -> list[Job]:
        """Claim in this thread, unless another one does.

        Whoever finds room left afterwards wakes the main thread, also when it was not the one.
        """
        if not self._claiming.acquire(blocking=False):
            return []
        try:
            return [] if self._asked_to_stop else perform(self._router, self._core.next_jobs())
        finally:
            self._claiming.release()

    def _look_around(self) -> None:
        """Find out who has work, also while there is some: a long backlog hides nobody."""
        while not self._stopping.is_set():
            perform(self._router, self._core.look())
            self._stopping.wait(self._core.options.poll)

    def _work(self) -> None:
        while (step := self._todo.get()) is not None:
            step()

    def _run(self, job: Job) -> None:
        following: Job | None = job
        while following is not None:
            following = self._run_one(following)

    def _run_one(self, job: Job) -> Job | None:
        """Run a job's callable; return the job that this thread runs next.

        This thread claims it, and another one says how the first ended: with few at once it is the
        claim that all wait for, and each thread that must wake up first.
        """
        ending = self._ending(job)
        if not self._core.makes_room(job, ending) or self._asked_to_stop:
            self._conclude(job, ending)
            return None
        self._todo.put(partial(self._conclude, job, ending))
        try:
            jobs = self._claim()
        except Exception as error:
            self._break(error)
            return None
        for other in jobs[1:]:
            self._todo.put(partial(self._run, other))
        if self._core.room > 0:
            self._wake()
        return jobs[0] if jobs else None

    def _conclude(self, job: Job, ending: WorkFactory[Any]) -> None:
        try:
            perform(self._router, self._core.concluder.conclude(job, ending))
        except BaseException:
            # Also SystemExit, which the work of its effects may raise.
            logger.exception("task %s is left to its lease", job.claim.id)
        finally:
            self._core.drop(job)

    def _ending(self, job: Job) -> WorkFactory[Any]:
        handler = self._handlers.get(job.claim.kind)
        if handler is None:
            return self._core.concluder.missing(job)
        try:
            return self._core.concluder.finished(job, handler(job))
        except BaseException as error:
            # Also SystemExit: it would end this thread, which is not the handler's.
            return self._core.concluder.failed(job, error)

    def _heartbeat(self) -> None:
        while not self._ended.wait(self._core.options.lease / 3):
            perform(self._router, self._core.renew())

    def _drain(self) -> None:
        """Wait for what runs, and give back what does not end: its threads end with the process."""
        until = time.monotonic() + self._core.options.drain
        while self._core.held and time.monotonic() < until:
            self._settle()
            if self._core.held:
                self._wait(max(0.0, until - time.monotonic()))
        self._ended.set()
        for _ in self._slots():
            self._todo.put(None)
        perform(self._router, self._core.release())

    def _beside(self, target: Callable[[], None]) -> threading.Thread:
        """Make a thread without which the worker cannot go on: it stops when that one fails."""

        def guarded() -> None:
            try:
                target()
            except Exception as error:
                self._break(error)

        return threading.Thread(target=guarded, daemon=True)

    def _break(self, error: Exception) -> None:
        self._broken.append(error)
        self.stop()

    def _wake(self) -> None:
        self._wakes.put(None)

    def _settle(self) -> None:
        """Forget what woke the worker: it looks at everything now."""
        while not self._wakes.empty():
            self._wakes.get()

    def _wait(self, seconds: float | None) -> None:
        with suppress(queue.Empty):
            self._wakes.get(timeout=seconds)

    def _addresses(self) -> list[str]:
        shards = self._router.map.shards.values() if self._core.options.listen else ()
        return [self._router.direct(shard) for shard in shards]

    def _slots(self) -> range:
        return range(self._core.options.most_held)

    def _catch(self, signals: bool) -> Iterator[tuple[int, Any]]:  # noqa: FBT001  private
        if signals and threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                yield number, signal.signal(number, lambda *_: self.stop())
