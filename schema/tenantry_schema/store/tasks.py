"""Task graphs as they are stored: submit, read, cancel, requeue, limit."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from tenantry_schema.errors import AlreadyExists, KeysConflict, UnknownTask
from tenantry_schema.naming import TASK_CHANNEL
from tenantry_schema.query import Query
from tenantry_schema.sql import load
from tenantry_schema.store import checks
from tenantry_schema.store.columns import edge_columns, task_columns
from tenantry_schema.store.graph import Edge, NewTask, check_graph
from tenantry_schema.store.rows import TASK_COLUMNS, Task

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from uuid import UUID

    from tenantry_schema.query import Work, WorkFactory

_KEYED = """
SELECT idempotency_key, id FROM tasks
WHERE tenant_id = %(tenant)s AND idempotency_key = ANY (%(keys)s::text[])
"""
_GET = f"SELECT {TASK_COLUMNS} FROM tasks WHERE tenant_id = %(tenant)s AND id = %(task)s"
_LIMIT = """
INSERT INTO task_limits AS bound (tenant_id, queue, most)
VALUES (%(tenant)s, %(queue)s, %(most)s)
ON CONFLICT (tenant_id, queue) DO UPDATE SET most = excluded.most
"""
_UNLIMIT = "DELETE FROM task_limits WHERE tenant_id = %(tenant)s AND queue = %(queue)s"
#: Tasks that one call may name; how many need them is not bounded.
NAMED_AT_ONCE = 1000
#: The queue that stands for all of a tenant's, in limits.
ALL_QUEUES = "*"


@dataclass(frozen=True, slots=True)
class Submitted:
    """What a submission did.

    :ivar ids: the ids of the tasks in the order in which they were given; for a repetition, of
        those with a key the first tasks' ids
    :ivar created: False when the keys were taken, by the first submission, and nothing was stored
    """

    ids: tuple[UUID, ...]
    created: bool


def submit(
    tenant: UUID, tasks: Iterable[NewTask], edges: Iterable[Edge] = (), *, wake: bool = True
) -> WorkFactory[Submitted]:
    """Store a whole graph in one transaction.

    The same objects may be submitted again, after an ``OutcomeUnknown`` for example: their ids tell
    Postgres that they are the same. Tasks with a key that is taken are not stored anew: the answer
    is the first ones.

    :param wake: whether to tell listening workers; a COMMIT that tells is not grouped with others
    :raises InvalidGraph: for a cycle, which is named, dangling edges and doubles
    :raises KeysConflict: when some keys are taken and others are not
    :raises AlreadyExists: when some of the tasks were submitted before and others were not
    """
    checks.uuid("tenant", tenant)
    given, needs = list(tasks), list(edges)
    counted = list(zip(given, check_graph(given, needs), strict=True))
    keyed = [it for it in counted if it[0].key is not None]
    plain = [it for it in counted if it[0].key is None]
    common = {"tenant": tenant, "channel": TASK_CHANNEL, "wake": bool(wake)}
    first = {**common, **task_columns(keyed), **edge_columns([] if plain else needs)}
    rest = {**common, **task_columns(plain), **edge_columns(needs)}
    stored_first = [task for task, _ in keyed]
    return partial(_submit, given, stored_first, first if keyed else None, rest if plain else None)


def get(tenant: UUID, task: UUID) -> WorkFactory[Task]:
    """Read a task.

    :raises UnknownTask: when the tenant has none of this id
    """
    params = {"tenant": checks.uuid("tenant", tenant), "task": checks.uuid("task", task)}
    return partial(_get, params)


def cancel(
    tenant: UUID, tasks: Sequence[UUID], *, reason: str = "cancelled"
) -> WorkFactory[tuple[UUID, ...]]:
    """Cancel tasks and all that need them; give the ids of what was ended by it.

    A running task's owner learns of it by ``LeaseLost``. Tasks that have ended stay as they are.
    """
    return partial(
        _cancel,
        {
            "tenant": checks.uuid("tenant", tenant),
            "ids": _ids(tasks),
            "fences": None,
            "error": checks.text("reason", reason, most=2000),
            "state": "cancelled",
            "owner": None,
            "channel": TASK_CHANNEL,
        },
    )


def requeue(tenant: UUID, tasks: Sequence[UUID]) -> WorkFactory[tuple[UUID, ...]]:
    """Make dead letters ready again, with all their attempts; give the ids of those that were."""
    return partial(
        _requeue,
        {
            "tenant": checks.uuid("tenant", tenant),
            "ids": _ids(tasks),
            "channel": TASK_CHANNEL,
        },
    )


def limit(tenant: UUID, most: int | None, *, queue: str = ALL_QUEUES) -> WorkFactory[None]:
    """Say how many tasks of a queue, or of a tenant, may run at once: how many leases may hold.

    :param most: 0 pauses; None takes the limit away
    :param queue: ``*`` for all of the tenant's queues together
    """
    params = {
        "tenant": checks.uuid("tenant", tenant),
        "queue": checks.text("queue", queue, most=63),
        "most": None if most is None else checks.whole("most", most),
    }
    return partial(_limit, params)


def _ids(tasks: Sequence[UUID]) -> list[UUID]:
    checks.whole("number of tasks", len(tasks), most=NAMED_AT_ONCE)
    return [checks.uuid("tasks", it) for it in tasks]


def _submit(
    given: list[NewTask],
    keyed: list[NewTask],
    first: dict[str, Any] | None,
    rest: dict[str, Any] | None,
) -> Work[Submitted]:
    ids = {task.id: task.id for task in given}
    if first is not None:
        # The keys first: a repetition is known before anything else is stored.
        made = yield Query(load("insert_tasks"), first)
        if len(made) < len(keyed):
            ids |= yield from _first_tasks(keyed, first, len(made))
            if any(task.id != ids[task.id] for task in keyed):
                return Submitted(tuple(ids[task.id] for task in keyed), created=False)
    if rest is not None:
        made = yield Query(load("insert_tasks"), rest)
        if len(made) not in {0, len(rest["ids"])}:
            raise AlreadyExists(
                f"{len(rest['ids']) - len(made)} of the graph's tasks were submitted before, and "
                f"{len(made)} were not: a graph is submitted again as a whole, or made anew"
            )
    return Submitted(tuple(ids[task.id] for task in given), created=True)


def _first_tasks(keyed: list[NewTask], params: dict[str, Any], made: int) -> Work[dict[UUID, UUID]]:
    """Return whose task each key is."""
    rows = yield Query(_KEYED, {"tenant": params["tenant"], "keys": params["keys"]})
    found: dict[str | None, UUID] = dict(rows)
    if made:
        taken = next(it.key for it in keyed if found.get(it.key) != it.id)
        raise KeysConflict(
            f"key {taken!r:.60} is taken and {made} others of the graph are not: a repetition has "
            "the same keys as the first submission, and a new graph none of them"
        )
    return {task.id: found[task.key] for task in keyed}


def _get(params: dict[str, Any]) -> Work[Task]:
    rows = yield Query(_GET, params)
    if not rows:
        raise UnknownTask(f"tenant {params['tenant']} has no task {params['task']}: check the id")
    return Task(*rows[0])


def _cancel(params: dict[str, Any]) -> Work[tuple[UUID, ...]]:
    rows = yield Query(load("end_tasks"), params)
    return tuple(row[0] for row in rows)


def _requeue(params: dict[str, Any]) -> Work[tuple[UUID, ...]]:
    rows = yield Query(load("requeue_tasks"), params)
    return tuple(row[0] for row in rows)


def _limit(params: dict[str, Any]) -> Work[None]:
    yield Query(_UNLIMIT if params["most"] is None else _LIMIT, params)
