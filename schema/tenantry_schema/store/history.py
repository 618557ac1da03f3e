"""History: transitions and logs, appended only; Postgres grants neither UPDATE nor DELETE.

Both are partitioned by time inside the bucket, and every read names a range of time, so that
Postgres looks into the partitions of that range only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from tenantry_schema.query import Query
from tenantry_schema.store import checks
from tenantry_schema.store.ids import new_id

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from tenantry_schema.query import Work, WorkFactory

LEVELS = ("debug", "info", "warning", "error")
#: Characters of a log line's message.
MESSAGE = 10_000

_TRANSITIONS = """
SELECT at, task_id, step, fence, from_state, to_state, owner, detail
FROM transitions
WHERE tenant_id = %(tenant)s AND at >= %(since)s AND at < %(until)s
    AND (at, task_id, step) > (%(at)s, %(task)s, %(step)s)
ORDER BY at, task_id, step
LIMIT %(limit)s
"""
_OF_TASK = """
SELECT at, task_id, step, fence, from_state, to_state, owner, detail
FROM transitions
WHERE tenant_id = %(tenant)s AND task_id = %(task)s AND at >= %(since)s AND at < %(until)s
ORDER BY step
"""
_LOGS = """
SELECT at, id, task_id, agent_id, level, message, fields
FROM logs
WHERE tenant_id = %(tenant)s AND at >= %(since)s AND at < %(until)s
    AND (at, id) > (%(at)s, %(id)s)
    AND (%(task)s::uuid IS NULL OR task_id = %(task)s)
ORDER BY at, id
LIMIT %(limit)s
"""
_LOG = """
INSERT INTO logs (tenant_id, id, task_id, agent_id, level, message, fields)
SELECT %(tenant)s, id, task_id, agent_id, level, message, fields::jsonb
FROM unnest(
    %(ids)s::uuid[], %(tasks)s::uuid[], %(agents)s::uuid[], %(levels)s::text[],
    %(messages)s::text[], %(fields)s::text[]
) AS given (id, task_id, agent_id, level, message, fields)
"""


class Transition(NamedTuple):
    """One change of a task's state.

    :ivar at: by the database's clock; never before the task's former change
    :ivar step: counts the task's changes from 1
    :ivar owner: who held the task, or took it
    """

    at: datetime
    task: UUID
    step: int
    fence: int
    from_state: str
    to_state: str
    owner: str | None
    detail: Any


class Log(NamedTuple):
    """One line of a log as it is stored."""

    at: datetime
    id: UUID
    task: UUID | None
    agent: UUID | None
    level: str
    message: str
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class NewLog:
    """A line to be stored; the database says when.

    :ivar message: 1 to 10,000 characters
    """

    message: str
    level: str = "info"
    task: UUID | None = None
    agent: UUID | None = None
    fields: dict[str, Any] = field(default_factory=dict)


def transitions(
    tenant: UUID,
    *,
    since: datetime,
    until: datetime,
    after: Transition | None = None,
    limit: int = 1000,
) -> WorkFactory[list[Transition]]:
    """Read what happened to a tenant's tasks in a range of time, page by page.

    :param after: the last one of the page before
    """
    params = {
        **_range(tenant, since, until),
        "at": since if after is None else after.at,
        "task": checks.BEFORE_ALL if after is None else after.task,
        "step": 0 if after is None else after.step,
        "limit": checks.page(limit),
    }
    return partial(_read, _TRANSITIONS, params, Transition)


def of_task(
    tenant: UUID, task: UUID, *, since: datetime, until: datetime
) -> WorkFactory[list[Transition]]:
    """Read what happened to one task in a range of time, in the order of its steps."""
    params = {**_range(tenant, since, until), "task": checks.uuid("task", task)}
    return partial(_read, _OF_TASK, params, Transition)


def log(tenant: UUID, lines: Sequence[NewLog]) -> WorkFactory[None]:
    """Append lines to a tenant's log, in one statement."""
    return partial(
        _log,
        {
            "tenant": checks.uuid("tenant", tenant),
            "ids": [new_id() for _ in lines],
            "tasks": [checks.optional_uuid("task", line.task) for line in lines],
            "agents": [checks.optional_uuid("agent", line.agent) for line in lines],
            "levels": [checks.choice("level", line.level, LEVELS) for line in lines],
            "messages": [checks.text("message", line.message, most=MESSAGE) for line in lines],
            "fields": [checks.mapping("fields", line.fields) for line in lines],
        },
    )


def logs(
    tenant: UUID,
    *,
    since: datetime,
    until: datetime,
    task: UUID | None = None,
    after: Log | None = None,
    limit: int = 1000,
) -> WorkFactory[list[Log]]:
    """Read a tenant's log in a range of time, page by page.

    :param task: the lines of one task only
    :param after: the last line of the page before
    """
    params = {
        **_range(tenant, since, until),
        "task": checks.optional_uuid("task", task),
        "at": since if after is None else after.at,
        "id": checks.BEFORE_ALL if after is None else after.id,
        "limit": checks.page(limit),
    }
    return partial(_read, _LOGS, params, Log)


def _range(tenant: UUID, since: datetime, until: datetime) -> dict[str, Any]:
    return {
        "tenant": checks.uuid("tenant", tenant),
        "since": checks.moment("since", since),
        "until": checks.moment("until", until),
    }


def _read(text: str, params: dict[str, Any], kind: type[Any]) -> Work[list[Any]]:
    rows = yield Query(text, params)
    return [kind(*row) for row in rows]


def _log(params: dict[str, Any]) -> Work[None]:
    yield Query(_LOG, params)
