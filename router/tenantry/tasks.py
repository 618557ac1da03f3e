"""Task graphs and claims: ``router.run(tasks.submit(acme, [task]), tenant=acme)``."""

from __future__ import annotations

from tenantry_schema.store.claims import (
    claim,
    fail,
    finish,
    finish_many,
    progress,
    release,
    renew,
)
from tenantry_schema.store.graph import Edge, NewTask
from tenantry_schema.store.retry import Retry
from tenantry_schema.store.rows import Claim, Task
from tenantry_schema.store.tasks import Submitted, cancel, get, limit, requeue, submit

__all__ = [
    "Claim",
    "Edge",
    "NewTask",
    "Retry",
    "Submitted",
    "Task",
    "cancel",
    "claim",
    "fail",
    "finish",
    "finish_many",
    "get",
    "limit",
    "progress",
    "release",
    "renew",
    "requeue",
    "submit",
]
