"""Workers: claim fairly, run a callable, heartbeat, finish; sync with threads, and asyncio."""

from __future__ import annotations

from tenantry.work.aworker import AsyncWorker
from tenantry.work.job import Effects, Job
from tenantry.work.options import WorkerOptions
from tenantry.work.worker import Worker

__all__ = ["AsyncWorker", "Effects", "Job", "Worker", "WorkerOptions"]
