"""Task graphs and claims: ``router.run(tasks.submit(acme, [task]), tenant=acme)``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tenantry_schema.naming import TASK_CHANNEL
from tenantry_schema.store import checks
from tenantry_schema.store.claims import claim, progress, renew
from tenantry_schema.store.endings import (
    exchange,
    fail,
    finish,
    finish_many,
    finish_with,
    release,
)
from tenantry_schema.store.graph import Edge, NewTask
from tenantry_schema.store.retry import Retry
from tenantry_schema.store.rows import Claim, Task
from tenantry_schema.store.tasks import Submitted, cancel, get, limit, requeue, submit

if TYPE_CHECKING:
    from uuid import UUID

__all__ = [
    "Claim",
    "Edge",
    "NewTask",
    "Retry",
    "Submitted",
    "Task",
    "announcement",
    "cancel",
    "claim",
    "exchange",
    "fail",
    "finish",
    "finish_many",
    "finish_with",
    "get",
    "limit",
    "progress",
    "release",
    "renew",
    "requeue",
    "submit",
]


def announcement(tenant: UUID, *, queue: str = "default") -> tuple[str, str]:
    """Return channel and message that wake workers: ``redis.publish(*announcement(acme))``."""
    return TASK_CHANNEL, f"{checks.uuid('tenant', tenant)} {checks.queue(queue)}"
