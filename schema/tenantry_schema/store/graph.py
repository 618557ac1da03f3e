"""A task graph before it is stored: checked as a whole, and turned into arrays. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tenantry_schema.errors import InvalidGraph, InvalidInput
from tenantry_schema.models.tasks import PRIORITIES
from tenantry_schema.states import ON_FAILURE, OnFailure
from tenantry_schema.store import checks
from tenantry_schema.store.ids import new_id
from tenantry_schema.store.retry import Retry

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime, timedelta
    from uuid import UUID

#: Tasks, and edges, of one graph.
LARGEST = 1_000_000
_SHOWN = 12


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task to be stored.

    :ivar kind: what is to be done: a worker looks up its callable by it
    :ivar payload: a JSON object of at most 256 KiB
    :ivar priority: 0 to 9; higher ones are claimed first
    :ivar delay: seconds from now, by the database's clock, before which it may not start
    :ivar run_after: the moment before which it may not start
    :ivar deadline: the moment after which it may not start, nor go on
    :ivar key: an idempotency key, unique for the tenant for ever
    :ivar agent: the agent that it belongs to; ``actor``, the actor that finds it when it recovers.
        Who may claim it is a matter of its queue
    :ivar id: made here, so that a repeated submission is the same task
    """

    kind: str
    payload: dict[str, Any] = field(default_factory=dict)
    queue: str = "default"
    priority: int = 0
    delay: float | timedelta = 0.0
    run_after: datetime | None = None
    deadline: datetime | None = None
    retry: Retry = Retry()  # noqa: RUF009  frozen
    key: str | None = None
    agent: UUID | None = None
    actor: UUID | None = None
    id: UUID = field(default_factory=new_id)


@dataclass(frozen=True, slots=True)
class Edge:
    """``task`` may start only when ``needs`` is done.

    :ivar on_failure: what becomes of ``task`` when ``needs`` does not end as done: ``fail``,
        ``skip``, or ``ignore``, which lets it start all the same
    """

    task: UUID
    needs: UUID
    on_failure: OnFailure = "fail"


def check_graph(tasks: Sequence[NewTask], edges: Sequence[Edge]) -> None:
    """Refuse what is no graph of these tasks.

    :raises InvalidGraph: for doubled tasks, doubled or dangling edges, and a cycle, which is named
    """
    for task in tasks:
        _check_kind(task)
    if not 1 <= len(tasks) <= LARGEST or len(edges) > LARGEST:
        raise InvalidGraph(
            f"a graph has 1 to {LARGEST:,} tasks and at most as many edges, not {len(tasks):,} and "
            f"{len(edges):,}: submit it in parts"
        )
    known = {task.id for task in tasks}
    if len(known) < len(tasks):
        raise InvalidGraph(f"task {_doubled(it.id for it in tasks)} is in the graph twice")
    for edge in edges:
        checks.choice("on_failure", edge.on_failure, ON_FAILURE)
        for end in (edge.task, edge.needs):
            if end not in known:
                raise InvalidGraph(f"an edge names task {end}, which is not in the graph: add it")
    pairs = {(edge.task, edge.needs) for edge in edges}
    if len(pairs) < len(edges):
        task, needs = _doubled((it.task, it.needs) for it in edges)
        raise InvalidGraph(f"the edge from task {task} to {needs} is in the graph twice")
    cycle = find_cycle((edge.task, edge.needs) for edge in edges)
    if cycle:
        kinds = {task.id: task.kind for task in tasks}
        shown = [f"{kinds[it]} ({it})" for it in cycle[:_SHOWN]]
        more = f" → … {len(cycle) - _SHOWN} more" if len(cycle) > _SHOWN else ""
        raise InvalidGraph(
            f"tasks need each other in a circle of {len(cycle)}: {' → '.join(shown)}{more} → "
            f"{shown[0]}: remove one of these edges"
        )


def _check_kind(task: object) -> None:
    retry: object = task.retry if isinstance(task, NewTask) else None
    if not isinstance(retry, Retry):
        raise InvalidInput(f"a graph is made of NewTask with a Retry, not of {task!r:.60}")


def find_cycle(edges: Iterable[tuple[Any, Any]]) -> list[Any]:
    """Return the members of a cycle, each followed by one that it needs, or nothing.

    Whatever needs nothing that is left is taken away until nothing changes (Kahn); in what remains
    everything needs something that remains, so walking along needs must come round.

    :param edges: (who, what it needs)
    """
    needs: dict[Any, list[Any]] = {}
    needed_by: dict[Any, list[Any]] = {}
    for who, what in edges:
        needs.setdefault(who, []).append(what)
        needed_by.setdefault(what, []).append(who)
    left = {who: len(whats) for who, whats in needs.items()}
    free = [what for what in needed_by if what not in left]
    while free:
        for who in needed_by.get(free.pop(), ()):
            left[who] -= 1
            if not left[who]:
                del left[who]
                free.append(who)
    return _walk_round(needs, left) if left else []


def task_arrays(tasks: Sequence[NewTask], edges: Sequence[Edge]) -> dict[str, list[Any]]:
    """Return the tasks as the columns that ``insert_tasks.sql`` unnests.

    :raises InvalidInput: naming the value that a task may not have
    """
    unmet = Counter(edge.task for edge in edges)
    # Tasks share few policies: they are sent once, and referred to by their places, from 1.
    places: dict[Retry, int] = {}
    rows = [
        _task_row(task, unmet[task.id], places.setdefault(task.retry, len(places) + 1))
        for task in tasks
    ]
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in _COLUMNS]
    return {**dict(zip(_COLUMNS, columns, strict=True)), **_retry_arrays(list(places))}


def edge_arrays(edges: Sequence[Edge]) -> dict[str, list[Any]]:
    """Return the edges as the columns that ``insert_tasks.sql`` unnests."""
    return {
        "tasks": [edge.task for edge in edges],
        "needs": [edge.needs for edge in edges],
        "on_failure": [edge.on_failure for edge in edges],
    }


_COLUMNS = (
    "ids",
    "agents",
    "actors",
    "kinds",
    "queues",
    "priorities",
    "payloads",
    "unmet",
    "delays",
    "run_after",
    "deadlines",
    "retries",
    "keys",
)


def _retry_arrays(retries: Sequence[Retry]) -> dict[str, list[Any]]:
    return {
        "max_attempts": [it.attempts for it in retries],
        "max_crashes": [it.crashes for it in retries],
        "backoff_ms": [it.backoff_ms for it in retries],
        "backoff_most_ms": [it.backoff_most_ms for it in retries],
        "dead": [it.then == "dead" for it in retries],
    }


def _task_row(task: NewTask, unmet: int, retry: int) -> tuple[Any, ...]:
    return (
        checks.uuid("id", task.id),
        checks.optional_uuid("agent", task.agent),
        checks.optional_uuid("actor", task.actor),
        checks.text("kind", task.kind, most=200),
        checks.queue(task.queue),
        checks.whole("priority", task.priority, most=PRIORITIES - 1),
        checks.mapping("payload", task.payload),
        unmet,
        checks.span("delay", task.delay).total_seconds(),
        None if task.run_after is None else checks.moment("run_after", task.run_after),
        None if task.deadline is None else checks.moment("deadline", task.deadline),
        retry,
        None if task.key is None else checks.text("key", task.key, most=200),
    )


def _walk_round(needs: dict[Any, list[Any]], left: dict[Any, int]) -> list[Any]:
    path: list[Any] = []
    at: dict[Any, int] = {}
    here = next(iter(left))
    while here not in at:
        at[here] = len(path)
        path.append(here)
        here = next(what for what in needs[here] if what in left)
    return path[at[here] :]


def _doubled(items: Iterable[Any]) -> Any:
    return next(item for item, count in Counter(items).items() if count > 1)
