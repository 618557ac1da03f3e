"""Tasks and edges as the columns that ``insert_tasks.sql`` unnests. Pure.

What many tasks of a graph have in common (kind, queue, priority, delay, retry) is checked and sent
once, as a *shape*, and each task names its place, from 1. A column of nothing but None is None.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tenantry_schema.models.tasks import PRIORITIES
from tenantry_schema.store import checks

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from tenantry_schema.store.graph import Edge, NewTask

_SHAPE = (
    "kinds",
    "queues",
    "priorities",
    "delays",
    "max_attempts",
    "max_crashes",
    "backoff_ms",
    "backoff_most_ms",
    "dead",
)


def task_columns(counted: Sequence[tuple[NewTask, int]]) -> dict[str, Any]:
    """Return the columns of tasks.

    :param counted: each task, and how many others it needs
    :raises InvalidInput: naming the value that a task may not have
    """
    tasks = [task for task, _ in counted]
    return {
        "ids": [checks.uuid("id", it.id) for it in tasks],
        "unmet": [needed for _, needed in counted],
        "payloads": [checks.mapping("payload", it.payload) for it in tasks],
        "agents": _sparse([checks.optional_uuid("agent", it.agent) for it in tasks]),
        "actors": _sparse([checks.optional_uuid("actor", it.actor) for it in tasks]),
        "run_after": _sparse([checks.optional_moment("run_after", it.run_after) for it in tasks]),
        "deadlines": _sparse([checks.optional_moment("deadline", it.deadline) for it in tasks]),
        "keys": _sparse([checks.optional_text("key", it.key, most=200) for it in tasks]),
        **_shape_columns(tasks),
    }


def edge_columns(edges: Sequence[Edge]) -> dict[str, list[Any]]:
    """Return the columns of edges."""
    return {
        "tasks": [edge.task for edge in edges],
        "needs": [edge.needs for edge in edges],
        "on_failure": [edge.on_failure for edge in edges],
    }


def _shape_columns(tasks: Sequence[NewTask]) -> dict[str, list[Any]]:
    places: dict[Hashable, int] = {}
    shapes: list[tuple[Any, ...]] = []
    found = []
    for task in tasks:
        key = _shape_key(task)
        try:
            place = places.get(key)
        except TypeError:
            # What cannot be hashed is nothing that a task may have: the checks say what it is.
            place = None
        if place is None:
            shapes.append(_shape(task))
            place = places[key] = len(shapes)
        found.append(place)
    columns = [list(column) for column in zip(*shapes, strict=True)] or [[] for _ in _SHAPE]
    return {"shapes": found, **dict(zip(_SHAPE, columns, strict=True))}


def _shape_key(task: NewTask) -> Hashable:
    # True is equal to 1 and has its hash, but is no priority.
    kinds = task.priority.__class__, task.delay.__class__
    return task.kind, task.queue, task.priority, task.delay, task.retry, kinds


def _shape(task: NewTask) -> tuple[Any, ...]:
    return (
        checks.text("kind", task.kind, most=200),
        checks.queue(task.queue),
        checks.whole("priority", task.priority, most=PRIORITIES - 1),
        checks.span("delay", task.delay).total_seconds(),
        task.retry.attempts,
        task.retry.crashes,
        task.retry.backoff_ms,
        task.retry.backoff_most_ms,
        task.retry.then == "dead",
    )


def _sparse(values: list[Any]) -> list[Any] | None:
    return None if values.count(None) == len(values) else values
