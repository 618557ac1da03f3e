"""A task graph before it is stored: what it is made of, and what makes it one. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tenantry_schema.errors import InvalidGraph, InvalidInput
from tenantry_schema.states import ON_FAILURE, OnFailure
from tenantry_schema.store import checks
from tenantry_schema.store.ids import new_id
from tenantry_schema.store.retry import Retry

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
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


def check_graph(tasks: Sequence[NewTask], edges: Sequence[Edge]) -> list[int]:
    """Refuse what is no graph of these tasks; return how many others each of them needs.

    :raises InvalidGraph: for doubled tasks, doubled or dangling edges, and a cycle, which is named
    """
    for task in tasks:
        _check_kind(task)
    if not 1 <= len(tasks) <= LARGEST or len(edges) > LARGEST:
        raise InvalidGraph(
            f"a graph has 1 to {LARGEST:,} tasks and at most as many edges, not {len(tasks):,} and "
            f"{len(edges):,}: submit it in parts"
        )
    # A UUID's hash is made in Python each time it is asked for: from here on places stand for ids.
    places = {task.id: place for place, task in enumerate(tasks)}
    if len(places) < len(tasks):
        raise InvalidGraph(f"task {_doubled(it.id for it in tasks)} is in the graph twice")
    pairs = [(_place(places, edge.task), _place(places, edge.needs)) for edge in edges]
    for edge in edges:
        checks.choice("on_failure", edge.on_failure, ON_FAILURE)
    if len(set(pairs)) < len(pairs):
        task, needs = (tasks[place].id for place in _doubled(pairs))
        raise InvalidGraph(f"the edge from task {task} to {needs} is in the graph twice")
    cycle = [tasks[place] for place in find_cycle(pairs)]
    if cycle:
        shown = [f"{it.kind} ({it.id})" for it in cycle[:_SHOWN]]
        more = f" → … {len(cycle) - _SHOWN} more" if len(cycle) > _SHOWN else ""
        raise InvalidGraph(
            f"tasks need each other in a circle of {len(cycle)}: {' → '.join(shown)}{more} → "
            f"{shown[0]}: remove one of these edges"
        )
    needed = [0] * len(tasks)
    for place, _ in pairs:
        needed[place] += 1
    return needed


def _place(places: Mapping[UUID, int], end: UUID) -> int:
    place = places.get(end)
    if place is None:
        raise InvalidGraph(f"an edge names task {end}, which is not in the graph: add it")
    return place


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
