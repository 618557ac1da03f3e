"""What the users of a load run do, decided before anything is sent: all of it follows from a seed.

Tenants are visited by Zipf's law, as those of a service are: the second half as often as the first,
the third a third as often. A user thinks before each operation, so that latencies are those of the
database and not of a queue in the load test itself.
"""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Kind(StrEnum):
    """A kind of operation, as reports name it."""

    READ = "read a task back"
    FIND = "find an agent by its id"
    LIST = "list ready tasks"
    ENQUEUE = "enqueue a task"
    LOG = "append a log"
    REGISTER = "register an agent"


#: How often each kind is done, in parts of a hundred.
MIX = {
    Kind.READ: 30,
    Kind.FIND: 15,
    Kind.LIST: 15,
    Kind.ENQUEUE: 20,
    Kind.LOG: 15,
    Kind.REGISTER: 5,
}

#: Of how many of its last tasks a user reads one back.
REMEMBERED = 100

_THINK_S = 0.01


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that a user does.

    :ivar seat: the number of the tenant
    :ivar key: the operation key: a write's own, or that of the task that is read back
    :ivar pause: seconds to think before
    """

    kind: Kind
    seat: int
    key: str
    pause: float


def operations(*, run: str, seed: int, user: int, seats: int) -> Iterator[Operation]:
    """Return what one user does, without end.

    :param run: the run's name, with which every operation key begins
    :param user: the user's number
    :param seats: how many tenants there are
    """
    chance = Random(f"{seed}/{user}")
    skew = list(itertools.accumulate(1 / rank for rank in range(1, seats + 1)))
    mix = list(itertools.accumulate(MIX.values()))
    tasks: deque[tuple[str, int]] = deque(maxlen=REMEMBERED)
    for number in itertools.count():
        (kind,) = chance.choices(list(MIX), cum_weights=mix)
        (seat,) = chance.choices(range(seats), cum_weights=skew)
        key = f"{run}-{user}-{number}"
        if kind is Kind.READ and not tasks:
            kind = Kind.ENQUEUE
        if kind is Kind.READ:
            key, seat = chance.choice(tasks)
        elif kind is Kind.ENQUEUE:
            tasks.append((key, seat))
        yield Operation(kind, seat, key, chance.expovariate(1 / _THINK_S))
