"""Workers in tests: at work for as long as a block lasts, their tasks, and what became of them."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager, contextmanager

from tenantry import AsyncWorker, Worker, tasks


@contextmanager
def working(router, handlers, **options):
    """A worker in a thread, for as long as the block lasts."""
    worker = Worker(router, handlers, **{"poll": 0.1, "listen": False, "drain": 5, **options})
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield worker
    finally:
        worker.stop()
        thread.join()


@asynccontextmanager
async def aworking(router, handlers, **options):
    worker = AsyncWorker(router, handlers, **{"poll": 0.1, "listen": False, "drain": 5, **options})
    running = asyncio.create_task(worker.run(signals=False))
    try:
        yield worker
    finally:
        worker.stop()
        await running


def state(router, tenant, task):
    return router.run(tasks.get(tenant, task.id), tenant=tenant).state


def submit(router, tenant, *graph, edges=()):
    router.run(tasks.submit(tenant, graph, edges), tenant=tenant)
