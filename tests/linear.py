"""Is a history of claims, recorded by concurrent workers, one that a single owner could explain?

Each call is an interval from its sending to its answer. A history is right when every call can be
put at one instant of its interval so that the calls, one after the other, are what one task with a
lease and a fence would have answered (Wing and Gong; Herlihy and Wing). Tasks do not touch each
other, so each one's history is searched alone. Pure.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Call:
    """What a worker asked for and was told.

    :ivar what: ``claim``, ``renew``, ``finish`` or ``release``
    :ivar held: whether it was told that the claim is its own; None when no answer came
    """

    task: object
    what: str
    owner: str
    fence: int
    held: bool | None
    sent: float
    answered: float


class Task(NamedTuple):
    """A task between two calls; its lease cannot run out before ``expires``."""

    state: str = "ready"
    fence: int = 0
    owner: str = ""
    expires: float = 0.0


def unexplained(calls, lease):
    """Return the tasks whose histories no order of their calls explains."""
    by_task = defaultdict(list)
    for call in calls:
        by_task[call.task].append(call)
    return [task for task, of_task in by_task.items() if not explained(of_task, lease)]


def explained(calls, lease):
    """Say whether the calls of one task can be put into an order that is right."""
    seen = set()
    open_ends = [(frozenset(range(len(calls))), Task())]
    while open_ends:
        left, task = open_ends.pop()
        if all(calls[it].held is None for it in left):
            return True
        # Whoever was sent after another was answered comes after it.
        bound = min(calls[it].answered for it in left if calls[it].held is not None)
        for it in left:
            if calls[it].sent <= bound:
                after = follow(task, calls[it], lease)
                if after is not None and (left - {it}, after) not in seen:
                    seen.add((left - {it}, after))
                    open_ends.append((left - {it}, after))
    return False


def follow(task, call, lease):
    """Return the task after a call that comes next, or None when it cannot come next."""
    holds = (task.state, task.fence, task.owner) == ("running", call.fence, call.owner)
    if call.what == "claim":
        free = task.state == "ready" or (task.state == "running" and call.answered >= task.expires)
        if not free or call.fence != task.fence + 1:
            return None
        return Task("running", call.fence, call.owner, call.sent + lease)
    if call.held is not None and call.held != holds:
        return None
    if not holds:
        return task
    if call.what == "renew":
        return task._replace(expires=call.sent + lease)
    return Task("done" if call.what == "finish" else "ready", task.fence)
