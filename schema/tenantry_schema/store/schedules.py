"""Schedules: one fire makes exactly one task, whatever number of schedulers run and crash.

Whoever fires holds the schedule's row, makes the tasks and moves ``next_fire`` on in one
transaction, by the database's clock. Nothing is elected: any worker may fire, and one that dies
in the middle has done nothing. A task's key names its schedule and moment, so that even a schedule
that was set back by hand makes no task twice.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from tenantry_schema.errors import AlreadyExists, InvalidSchedule, UnknownSchedule
from tenantry_schema.naming import TASK_CHANNEL
from tenantry_schema.query import Query
from tenantry_schema.sql import load
from tenantry_schema.store import checks
from tenantry_schema.store.columns import edge_columns, task_columns
from tenantry_schema.store.cron import MISFIRE, Rhythm, catch_up
from tenantry_schema.store.graph import NewTask, check_graph
from tenantry_schema.store.ids import new_id
from tenantry_schema.store.retry import Retry

if TYPE_CHECKING:
    from datetime import datetime, timedelta
    from uuid import UUID

    from tenantry_schema.query import Row, Work, WorkFactory

#: Schedules that one transaction fires.
LARGEST_BATCH = 100

_COLUMNS = (
    "tenant_id, id, name, cron, every, time_zone, misfire, grace, task_kind, queue, priority, "
    "payload, agent_id, next_fire, fires, paused_at, created_at, updated_at"
)
_CREATE = f"""
INSERT INTO schedules (
    tenant_id, id, name, cron, every, time_zone, misfire, grace, task_kind, queue, priority,
    payload, retry, agent_id, next_fire
)
VALUES (
    %(tenant)s, %(schedule)s, %(name)s, %(cron)s, %(every)s, %(time_zone)s, %(misfire)s, %(grace)s,
    %(kind)s, %(queue)s, %(priority)s, %(payload)s::jsonb, %(retry)s::jsonb, %(agent)s,
    %(next_fire)s
)
ON CONFLICT DO NOTHING
RETURNING {_COLUMNS}
"""
_NAMED = f"""
SELECT payload = %(payload)s::jsonb AND retry = %(retry)s::jsonb, {_COLUMNS}
FROM schedules
WHERE tenant_id = %(tenant)s AND name = %(name)s
"""
#: What a schedule of the same name must agree in, beside its documents.
_AGREED = ("cron", "every", "time_zone", "misfire", "grace", "kind", "queue", "priority", "agent")
_GET = f"SELECT {_COLUMNS} FROM schedules WHERE tenant_id = %(tenant)s AND id = %(schedule)s"
_LIST = f"""
SELECT {_COLUMNS} FROM schedules
WHERE tenant_id = %(tenant)s AND id > %(after)s
ORDER BY id
LIMIT %(limit)s
"""
_PAUSE = f"""
UPDATE schedules SET paused_at = coalesce(paused_at, now()), updated_at = now()
WHERE tenant_id = %(tenant)s AND id = %(schedule)s
RETURNING {_COLUMNS}
"""
_RESUME = f"""
UPDATE schedules SET paused_at = NULL, next_fire = %(next_fire)s, updated_at = now()
WHERE tenant_id = %(tenant)s AND id = %(schedule)s
RETURNING {_COLUMNS}
"""
_REMOVE = "DELETE FROM schedules WHERE tenant_id = %(tenant)s AND id = %(schedule)s RETURNING id"
_NOW = "SELECT clock_timestamp()"
_MOVE_ON = """
UPDATE schedules
SET next_fire = given.next_fire, fires = schedules.fires + given.fires, updated_at = now()
FROM unnest(%(ids)s::uuid[], %(next_fires)s::timestamptz[], %(fires)s::int[])
    AS given (id, next_fire, fires)
WHERE schedules.tenant_id = %(tenant)s AND schedules.id = given.id
"""


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule as it is stored.

    :ivar next_fire: the moment that it waits for, by the database's clock
    :ivar fires: how many tasks it has made
    """

    tenant: UUID
    id: UUID
    name: str
    cron: str | None
    every: timedelta | None
    time_zone: str
    misfire: str
    grace: timedelta
    kind: str
    queue: str
    priority: int
    payload: dict[str, Any]
    agent: UUID | None
    next_fire: datetime
    fires: int
    paused_at: datetime | None
    created_at: datetime
    updated_at: datetime


class Fired(NamedTuple):
    """A task that a schedule made."""

    schedule: UUID
    moment: datetime
    task: UUID


class _Due(NamedTuple):
    """A row of ``due_schedules.sql``."""

    now: datetime
    id: UUID
    agent: UUID | None
    name: str
    cron: str | None
    every: timedelta | None
    time_zone: str
    misfire: str
    grace: timedelta
    kind: str
    queue: str
    priority: int
    payload: dict[str, Any]
    retry: dict[str, Any]
    next_fire: datetime


def create(
    tenant: UUID,
    *,
    name: str,
    task: NewTask,
    cron: str | None = None,
    every: float | timedelta | None = None,
    time_zone: str = "UTC",
    misfire: str = "once",
    grace: float | timedelta = 60.0,
    starts: datetime | None = None,
) -> WorkFactory[Schedule]:
    """Create a schedule; creating it again with the same arguments gives what is stored.

    :param task: what each fire makes: its kind, queue, priority, agent, retry, and its payload, to
        which each fire adds the name of the ``schedule`` and the moment of the ``fire``
    :param cron: five fields, in the wall-clock time of ``time_zone``; or
    :param every: seconds between two fires, at least 1
    :param misfire: of what is due, ``once`` makes one task, ``all`` one for each moment, and
        ``skip`` none for moments that are later than ``grace``
    :param starts: the first moment of an interval; no fire is before it. Default now
    :raises InvalidSchedule: for an expression, an interval or a zone that cannot be used
    :raises AlreadyExists: when the name belongs to a schedule that differs in more than ``starts``
    """
    rhythm = Rhythm(cron, None if every is None else _interval(every), time_zone)
    params = {
        "tenant": checks.uuid("tenant", tenant),
        "schedule": new_id(),
        "name": checks.text("name", name, most=200),
        "cron": rhythm.cron,
        "every": rhythm.every,
        "time_zone": rhythm.time_zone,
        "misfire": checks.choice("misfire", misfire, MISFIRE),
        "grace": checks.span("grace", grace),
        **_template(task),
    }
    if starts is not None:
        checks.moment("starts", starts)
    return partial(_create, params, rhythm, starts)


def get(tenant: UUID, schedule: UUID) -> WorkFactory[Schedule]:
    """Read a schedule.

    :raises UnknownSchedule: when the tenant has none of this id
    """
    return partial(_one, _GET, _key(tenant, schedule))


def page(
    tenant: UUID, *, after: UUID | None = None, limit: int = 100
) -> WorkFactory[list[Schedule]]:
    """List schedules in the order of their ids, which is that of their birth."""
    params = {
        "tenant": checks.uuid("tenant", tenant),
        "after": checks.BEFORE_ALL if after is None else checks.uuid("after", after),
        "limit": checks.page(limit),
    }
    return partial(_page, params)


def pause(tenant: UUID, schedule: UUID) -> WorkFactory[Schedule]:
    """Let a schedule fire no more until it is resumed.

    :raises UnknownSchedule: when the tenant has none of this id
    """
    return partial(_one, _PAUSE, _key(tenant, schedule))


def resume(tenant: UUID, schedule: UUID) -> WorkFactory[Schedule]:
    """Let a paused schedule fire again, from now on: the pause is not caught up.

    :raises UnknownSchedule: when the tenant has none of this id
    """
    return partial(_resume, _key(tenant, schedule))


def remove(tenant: UUID, schedule: UUID) -> WorkFactory[None]:
    """Remove a schedule; the tasks that it made stay.

    :raises UnknownSchedule: when the tenant has none of this id
    """
    return partial(_remove, _key(tenant, schedule))


def fire_due(tenant: UUID, *, most: int = LARGEST_BATCH) -> WorkFactory[list[Fired]]:
    """Make the tasks of a tenant's schedules that are due, by the database's clock.

    Workers call it by themselves. What another process fires at this moment is left to it.

    :param most: of how many schedules, at most 100
    """
    params = {
        "tenant": checks.uuid("tenant", tenant),
        "most": checks.whole("most", most, least=1, most=LARGEST_BATCH),
    }
    return partial(_fire_due, params)


def _interval(every: object) -> timedelta:
    try:
        return checks.span("every", every)
    except ValueError as error:
        raise InvalidSchedule(str(error)) from error


def _template(task: NewTask) -> dict[str, Any]:
    check_graph([task], ())
    columns = task_columns([(task, 0)])
    if task.key is not None or task.deadline is not None or task.run_after is not None:
        raise InvalidSchedule(
            "task= of a schedule has neither key, run_after nor deadline: each fire has its own"
        )
    return {
        "kind": task.kind,
        "queue": task.queue,
        "priority": task.priority,
        "payload": columns["payloads"][0],
        "retry": checks.document("retry", asdict(task.retry)),
        "agent": task.agent,
    }


def _key(tenant: UUID, schedule: UUID) -> dict[str, Any]:
    return {"tenant": checks.uuid("tenant", tenant), "schedule": checks.uuid("schedule", schedule)}


def _create(params: dict[str, Any], rhythm: Rhythm, starts: datetime | None) -> Work[Schedule]:
    rows = yield Query(_NOW)
    begin = rows[0][0] if starts is None else starts
    first = begin if rhythm.every is not None else rhythm.after(begin, anchor=begin)
    rows = yield Query(_CREATE, {**params, "next_fire": first})
    if rows:
        return Schedule(*rows[0])
    rows = yield Query(_NAMED, params)
    same_documents, *stored = rows[0]
    found = Schedule(*stored)
    other = [name for name in _AGREED if getattr(found, name) != params[name]]
    if other or not same_documents:
        what = ", ".join(other) or "payload or retry"
        raise AlreadyExists(
            f"schedule {found.name!r} is there already with another {what}: remove it first, or "
            "give another name"
        )
    return found


def _one(text: str, params: dict[str, Any]) -> Work[Schedule]:
    rows = yield Query(text, params)
    return Schedule(*_first(rows, params))


def _page(params: dict[str, Any]) -> Work[list[Schedule]]:
    rows = yield Query(_LIST, params)
    return [Schedule(*row) for row in rows]


def _resume(params: dict[str, Any]) -> Work[Schedule]:
    found = yield from _one(_GET, params)
    if found.paused_at is None:
        return found
    rows = yield Query(_NOW)
    rhythm = Rhythm(found.cron, found.every, found.time_zone)
    following = rhythm.after(rows[0][0], anchor=found.next_fire)
    resumed = yield from _one(_RESUME, {**params, "next_fire": following})
    return resumed


def _remove(params: dict[str, Any]) -> Work[None]:
    rows = yield Query(_REMOVE, params)
    _first(rows, params)


def _fire_due(params: dict[str, Any]) -> Work[list[Fired]]:
    rows = yield Query(load("due_schedules"), params)
    if not rows:
        return []
    fires: list[tuple[Fired, NewTask]] = []
    moved: list[tuple[UUID, datetime, int]] = []
    for due in (_Due(*row) for row in rows):
        rhythm = Rhythm(due.cron, due.every, due.time_zone)
        plan = catch_up(rhythm, due.next_fire, due.now, misfire=due.misfire, grace=due.grace)
        tasks = [_task(due, moment) for moment in plan.fires]
        fires += [
            (Fired(due.id, moment, task.id), task)
            for moment, task in zip(plan.fires, tasks, strict=True)
        ]
        moved.append((due.id, plan.next_fire, len(tasks)))
    made = yield from _make(params["tenant"], [task for _, task in fires])
    ids, following, counts = (list(column) for column in zip(*moved, strict=True))
    yield Query(_MOVE_ON, {**params, "ids": ids, "next_fires": following, "fires": counts})
    return [fired for fired, _ in fires if fired.task in made]


def _make(tenant: UUID, tasks: list[NewTask]) -> Work[set[UUID]]:
    """Store the tasks whose keys are not taken, and return their ids."""
    common = {"tenant": tenant, "channel": TASK_CHANNEL, "wake": True}
    columns = {**task_columns([(task, 0) for task in tasks]), **edge_columns(())}
    rows = yield Query(load("insert_tasks"), {**common, **columns})
    return {row[0] for row in rows}


def _task(due: _Due, moment: datetime) -> NewTask:
    return NewTask(
        due.kind,
        {**due.payload, "schedule": due.name, "fire": moment.isoformat()},
        queue=due.queue,
        priority=due.priority,
        retry=Retry(**due.retry),
        key=f"schedule {due.id} {moment.isoformat()}",
        agent=due.agent,
    )


def _first(rows: list[Row], params: dict[str, Any]) -> Row:
    if not rows:
        raise UnknownSchedule(
            f"tenant {params['tenant']} has no schedule {params['schedule']}: check the id"
        )
    return rows[0]
