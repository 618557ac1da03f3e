"""The async worker: tasks of an event loop that run coroutines."""

from __future__ import annotations

import asyncio
import logging
import signal
from typing import TYPE_CHECKING, Any

from tenantry.work.core import WorkerCore
from tenantry.work.ears import Ears
from tenantry.work.flow import aperform
from tenantry.work.options import WorkerOptions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from tenantry.aio import AsyncRouter
    from tenantry.work.job import Job
    from tenantry_schema.query import WorkFactory

logger = logging.getLogger("tenantry")

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class AsyncWorker:
    """Claim tasks, run them as tasks of the event loop, and say how they ended.

    :param router: an open router of this event loop
    :param handlers: a coroutine function for each kind of task; it is called with a
        :class:`~tenantry.work.job.Job`, its result is the task's, what it raises fails the
        attempt, and it is cancelled when the claim is lost
    :param options: the fields of :class:`~tenantry.work.options.WorkerOptions`
    :raises InvalidInput: for an option that cannot be used

    A task may run more than once when a worker dies or hangs, but only the owner of its claim can
    finish it: make its effects in the transaction of the finish, or idempotent.
    """

    def __init__(
        self,
        router: AsyncRouter,
        handlers: Mapping[str, Callable[[Job], Awaitable[Any]]],
        **options: Any,
    ) -> None:
        self._router = router
        self._handlers = dict(handlers)
        self._wake = asyncio.Event()
        self._core = WorkerCore(WorkerOptions(**options), self._wake.set)
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        self._running: dict[asyncio.Task[None], Job] = {}

    @property
    def name(self) -> str:
        """The owner's name of its claims."""
        return self._core.options.name

    def stop(self) -> None:
        """Claim no more, let running tasks end, and return from :meth:`run`; in the loop's thread.

        From another thread: ``loop.call_soon_threadsafe(worker.stop)``.
        """
        self._stopping.set()
        self._wake.set()

    async def run(self, *, signals: bool = True) -> None:
        """Work until :meth:`stop`, SIGTERM or SIGINT.

        :param signals: whether the two signals stop it, while the loop runs in the main thread
        """
        loop = asyncio.get_running_loop()
        caught = self._catch(loop) if signals else ()
        shards = self._router.map.shards.values() if self._core.options.listen else ()
        ears = Ears(
            [self._router.direct(shard) for shard in shards],
            self._core.options.redis,
            lambda message: _call(loop, self._core.hear, message),
        )
        beside = [asyncio.create_task(it) for it in (self._look_around(), self._heartbeat())]
        for task in beside:
            # The worker cannot go on without them.
            task.add_done_callback(lambda _: self.stop())
        ears.open()
        try:
            await self._claim_until_stopped()
        finally:
            self.stop()
            await asyncio.to_thread(ears.close)
            await self._drain()
            self._ended.set()
            for number in caught:
                loop.remove_signal_handler(number)
            await asyncio.gather(*beside)

    async def _claim_until_stopped(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            jobs = await aperform(self._router, self._core.next_jobs())
            for job in jobs:
                self._running[asyncio.create_task(self._work(job))] = job
            if not jobs:
                await self._wake.wait()

    async def _look_around(self) -> None:
        """Find out who has work, also while there is some: a long backlog hides nobody."""
        while not self._stopping.is_set():
            await aperform(self._router, self._core.look())
            await _wait(self._stopping, self._core.options.poll)

    async def _work(self, job: Job) -> None:
        try:
            ending = await self._ending(job)
            if self._core.makes_room(job, ending):
                self._wake.set()
            await aperform(self._router, self._core.concluder.conclude(job, ending))
        except asyncio.CancelledError:
            logger.warning("task %s was cancelled: its claim is gone", job.claim.id)
        except Exception:
            logger.exception("task %s is left to its lease", job.claim.id)
        finally:
            self._core.drop(job)
            current = asyncio.current_task()
            if current is not None:
                self._running.pop(current, None)

    async def _ending(self, job: Job) -> WorkFactory[Any]:
        handler = self._handlers.get(job.claim.kind)
        if handler is None:
            return self._core.concluder.missing(job)
        try:
            return self._core.concluder.finished(job, await handler(job))
        except Exception as error:
            return self._core.concluder.failed(job, error)

    async def _heartbeat(self) -> None:
        while not await _wait(self._ended, self._core.options.lease / 3):
            lost = await aperform(self._router, self._core.renew())
            # A finish learns of it from Postgres, and may carry others'.
            self._cancel([job for job in lost if not job.finishing])

    async def _drain(self) -> None:
        """Wait for what runs; give back and cancel what does not end."""
        if self._running:
            await asyncio.wait(list(self._running), timeout=self._core.options.drain)
        left = list(self._running)
        await aperform(self._router, self._core.release())
        self._cancel(list(self._running.values()))
        await asyncio.gather(*left, return_exceptions=True)

    def _cancel(self, jobs: list[Job]) -> None:
        for task, job in list(self._running.items()):
            if job in jobs:
                task.cancel()

    def _catch(self, loop: asyncio.AbstractEventLoop) -> tuple[int, ...]:
        try:
            for number in _SIGNALS:
                loop.add_signal_handler(number, self.stop)
        except (RuntimeError, ValueError):
            # Only the main thread's loop can be told of signals.
            return ()
        return _SIGNALS


async def _wait(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event for so long at most; say whether it came."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False


def _call(loop: asyncio.AbstractEventLoop, hear: Callable[[str], None], message: str) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(hear, message)
