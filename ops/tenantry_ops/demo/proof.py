"""What the history of tasks must show, whoever died on the way: pure.

Each claim begins an interval that ends with the task's next change. The history is right when a
task's changes follow each other as drawn, fences only grow, whoever ended a task held it, and
nothing ran before what it needs was done.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from tenantry_schema.states import NEW, TRANSITIONS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

    from tenantry.history import Transition


@dataclass(slots=True)
class Proof:
    """What was counted, and what was wrong.

    :ivar taken_over: claims that were taken over after a lease ran out or an actor came back
    :ivar faults: each one thing that must not be
    """

    tasks: int = 0
    done: int = 0
    transitions: int = 0
    claims: int = 0
    taken_over: int = 0
    edges: int = 0
    faults: list[str] = field(default_factory=list)


def prove(history: Iterable[Transition], edges: Iterable[tuple[UUID, UUID]]) -> Proof:
    """Check the whole history of some tasks, and their edges (task, what it needs)."""
    proof = Proof()
    by_task: dict[UUID, list[Transition]] = defaultdict(list)
    for change in history:
        by_task[change.task].append(change)
    for task, changes in by_task.items():
        changes.sort(key=lambda it: it.step)
        proof.faults += [f"task {task}: {fault}" for fault in _faults(changes)]
        _count(proof, changes)
    for task, needs in edges:
        proof.edges += 1
        if not _ran_after(by_task[task], by_task[needs]):
            proof.faults.append(f"task {task} ran before {needs} was done")
    return proof


def _count(proof: Proof, changes: list[Transition]) -> None:
    proof.tasks += 1
    proof.transitions += len(changes)
    proof.done += sum(it.to_state == "done" for it in changes)
    proof.claims += sum(it.to_state == "running" for it in changes)
    proof.taken_over += sum(
        (it.from_state, it.to_state) == ("running", "running") for it in changes
    )


def _faults(changes: list[Transition]) -> list[str]:
    faults = []
    if [it.step for it in changes] != list(range(1, len(changes) + 1)):
        faults.append("steps are missing or doubled")
    if changes[0].from_state != NEW:
        faults.append("its beginning is missing")
    if sum(it.to_state == "done" for it in changes) != 1 or changes[-1].to_state != "done":
        faults.append("it was not done exactly once")
    faults += [
        f"{it.from_state} became {it.to_state}"
        for it in changes
        if (it.from_state, it.to_state) not in TRANSITIONS
    ]
    for before, after in pairwise(changes):
        faults += _between(before, after)
    return faults


def _between(before: Transition, after: Transition) -> list[str]:
    faults = []
    if before.to_state != after.from_state:
        faults.append(f"it was {before.to_state}, and then changed from {after.from_state}")
    if after.at < before.at:
        faults.append("two of its changes overlap")
    if after.fence != before.fence + (after.to_state == "running"):
        faults.append(f"its fence went from {before.fence} to {after.fence}")
    if after.to_state == "done" and after.owner != before.owner:
        faults.append(f"{before.owner} held it, and {after.owner} finished it")
    return faults


def _ran_after(changes: list[Transition], needed: list[Transition]) -> bool:
    began = [it.at for it in changes if it.to_state == "running"]
    ended = [it.at for it in needed if it.to_state == "done"]
    return bool(began and ended) and min(began) >= max(ended)
