"""The sync worker: threads that run callables."""

from __future__ import annotations

import logging
import queue
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

from tenantry.work.core import WorkerCore, WorkerOptions
from tenantry.work.ears import Ears
from tenantry.work.flow import perform

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tenantry.router import Router
    from tenantry.work.core import Job
    from tenantry_schema.query import WorkFactory

logger = logging.getLogger("tenantry")

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Worker:
    """Claim tasks, run them in threads, and say how they ended.

    :param router: an open router; its pool should have a connection for each task at once
    :param handlers: a callable for each kind of task; it is called with a
        :class:`~tenantry.work.core.Job`, its result is the task's, and what it raises fails the
        attempt
    :param options: the fields of :class:`~tenantry.work.core.WorkerOptions`
    :raises InvalidInput: for an option that cannot be used

    A task may run more than once when a worker dies or hangs, but only the owner of its claim can
    finish it: make its effects in the transaction of the finish, or idempotent.
    """

    def __init__(
        self, router: Router, handlers: Mapping[str, Callable[[Job], Any]], **options: Any
    ) -> None:
        self._router = router
        self._handlers = dict(handlers)
        self._core = WorkerCore(WorkerOptions(**options))
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()

    @property
    def name(self) -> str:
        """The owner's name of its claims."""
        return self._core.options.name

    def stop(self) -> None:
        """Claim no more, let running tasks end, and return from :meth:`run`; from any thread."""
        self._stopping.set()
        self._wake.set()

    def run(self, *, signals: bool = True) -> None:
        """Work until :meth:`stop`, SIGTERM or SIGINT.

        :param signals: whether the two signals stop it, while it runs in the main thread
        """
        before = list(self._catch(signals))
        ears = Ears(self._addresses(), self._core.options.redis, self._hear)
        threads = [threading.Thread(target=self._work, daemon=True) for _ in self._slots()]
        threads.append(threading.Thread(target=self._heartbeat, daemon=True))
        ears.open()
        try:
            for thread in threads:
                thread.start()
            self._claim_until_stopped()
        finally:
            self._stopping.set()
            ears.close()
            self._drain()
            for number, handler in before:
                signal.signal(number, handler)

    def _claim_until_stopped(self) -> None:
        look_at = 0.0
        while not self._stopping.is_set():
            self._wake.clear()
            free = self._core.options.concurrency - len(self._core.held)
            jobs = perform(self._router, self._core.next_jobs(free)) if free > 0 else []
            for job in jobs:
                self._jobs.put(job)
            if jobs:
                continue
            if time.monotonic() >= look_at:
                perform(self._router, self._core.look())
                look_at = time.monotonic() + self._core.options.poll
                if free > 0 and self._core.ring:
                    continue
            self._wake.wait(max(0.0, look_at - time.monotonic()))

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                perform(self._router, self._core.conclude(job, self._ending(job)))
            except Exception:
                logger.exception("task %s is left to its lease", job.claim.id)
            self._core.drop(job)
            self._wake.set()

    def _ending(self, job: Job) -> WorkFactory[Any]:
        handler = self._handlers.get(job.claim.kind)
        if handler is None:
            return self._core.missing(job)
        try:
            return self._core.finished(job, handler(job))
        except Exception as error:
            return self._core.failed(job, error)

    def _heartbeat(self) -> None:
        while not self._ended.wait(self._core.options.lease / 3):
            perform(self._router, self._core.renew())

    def _drain(self) -> None:
        """Wait for what runs, and give back what does not end: its threads end with the process."""
        until = time.monotonic() + self._core.options.drain
        while self._core.held and time.monotonic() < until:
            self._wake.clear()
            if self._core.held:
                self._wake.wait(until - time.monotonic())
        self._ended.set()
        for _ in self._slots():
            self._jobs.put(None)
        perform(self._router, self._core.release())

    def _hear(self, message: str) -> None:
        if self._core.heard(message):
            self._wake.set()

    def _addresses(self) -> list[str]:
        shards = self._router.map.shards.values() if self._core.options.listen else ()
        return [self._router.direct(shard) for shard in shards]

    def _slots(self) -> range:
        return range(self._core.options.concurrency)

    def _catch(self, signals: bool) -> Iterator[tuple[int, Any]]:  # noqa: FBT001  private
        if signals and threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                yield number, signal.signal(number, lambda *_: self.stop())
