"""Tasks and claims as values, read from the rows of the statements."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tenantry_schema.query import Row

#: The columns of a :class:`Task`, in its order.
TASK_COLUMNS = (
    "tenant_id, id, kind, queue, state, priority, payload, result, progress, error, attempt, "
    "crashes, fence, unmet, owner, lease_until, run_after, deadline, agent_id, actor_id, "
    "idempotency_key, created_at, updated_at"
)


@dataclass(frozen=True, slots=True)
class Task:
    """A task as it is stored.

    :ivar unmet: how many of the tasks that it needs are not done yet
    :ivar attempt: how often it was claimed; ``crashes``, how often a lease ran out
    """

    tenant: UUID
    id: UUID
    kind: str
    queue: str
    state: str
    priority: int
    payload: dict[str, Any]
    result: Any
    progress: Any
    error: str | None
    attempt: int
    crashes: int
    fence: int
    unmet: int
    owner: str | None
    lease_until: datetime | None
    run_after: datetime
    deadline: datetime | None
    agent: UUID | None
    actor: UUID | None
    key: str | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to do a task until the lease ends, and the number that proves it.

    :ivar fence: the fencing number: whoever claims the task next gets a higher one
    :ivar lease_until: by the database's clock; renew well before
    :ivar late: whether the deadline had passed when the claim was made
    :ivar needed: whether other tasks may need it
    """

    tenant: UUID
    id: UUID
    fence: int
    queue: str
    kind: str
    payload: dict[str, Any]
    priority: int
    attempt: int
    crashes: int
    max_attempts: int
    max_crashes: int
    backoff_ms: int
    backoff_most_ms: int
    exhausted: str
    lease_until: datetime
    deadline: datetime | None
    late: bool
    agent: UUID | None
    actor: UUID | None
    progress: Any
    owner: str
    needed: bool

    @classmethod
    def from_row(cls, tenant: UUID, row: Row) -> Self:
        """Read a row of a statement that claims."""
        return cls(tenant, *row)

    @classmethod
    def from_json(cls, task: Mapping[str, Any]) -> Self:
        """Read a row of ``tasks`` that Postgres turned into JSON."""
        deadline = task["deadline"]
        return cls(
            tenant=UUID(task["tenant_id"]),
            lease_until=datetime.fromisoformat(task["lease_until"]),
            deadline=None if deadline is None else datetime.fromisoformat(deadline),
            late=False,
            needed=True,
            agent=_uuid(task["agent_id"]),
            actor=_uuid(task["actor_id"]),
            id=UUID(task["id"]),
            **{name: task[name] for name in _SAME},
        )


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A task of an actor that has not ended.

    :ivar owner: who has claimed it, or None
    """

    id: UUID
    kind: str
    queue: str
    state: str
    attempt: int
    fence: int
    owner: str | None
    unmet: int
    run_after: datetime
    progress: Any

    @classmethod
    def from_json(cls, task: Mapping[str, Any]) -> Self:
        """Read what ``recover_actor.sql`` tells of a task."""
        return cls(
            id=UUID(task["id"]),
            kind=task["kind"],
            queue=task["queue"],
            state=task["state"],
            attempt=task["attempt"],
            fence=task["fence"],
            owner=task["owner"],
            unmet=task["unmet"],
            run_after=datetime.fromisoformat(task["run_after"]),
            progress=task["progress"],
        )


_SAME = (
    "fence",
    "queue",
    "kind",
    "payload",
    "priority",
    "attempt",
    "crashes",
    "max_attempts",
    "max_crashes",
    "backoff_ms",
    "backoff_most_ms",
    "exhausted",
    "progress",
    "owner",
)


def _uuid(text: str | None) -> UUID | None:
    return None if text is None else UUID(text)
