"""What a worker can be told."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from tenantry.errors import InvalidInput
from tenantry_schema.store import checks, claims
from tenantry_schema.store.ids import new_id

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from uuid import UUID


def default_name() -> str:
    """Return a name that no other worker has: it is part of what proves a claim."""
    return f"{socket.gethostname()[:60]}:{os.getpid()}:{new_id().hex}"


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """What a worker can be told.

    :ivar queues: the queues that it serves
    :ivar tenants: the tenants that it serves, or None for all of the fleet's
    :ivar concurrency: how many tasks it runs at once; as many more may be being finished
    :ivar lease: seconds that a claim holds; it is renewed at a third of them
    :ivar poll: seconds between two looks at the shards when nothing wakes the worker
    :ivar drain: seconds that running tasks get to end when the worker stops
    :ivar listen: whether to hold a connection to each shard that hears of new tasks
    :ivar redis: the URL of a Redis on whose channel new tasks are told, or None
    :ivar name: the owner's name of its claims: no two workers may share one, ever
    """

    queues: Sequence[str] = ("default",)
    tenants: Collection[UUID] | None = None
    concurrency: int = 8
    lease: float = 60.0
    poll: float = 1.0
    drain: float = 30.0
    listen: bool = True
    redis: str | None = field(default=None, repr=False)
    name: str = field(default_factory=default_name)

    @property
    def most_held(self) -> int:
        """How many claims it holds at most: as many as it runs may be on their way to the end."""
        return 2 * self.concurrency

    def __post_init__(self) -> None:
        if isinstance(self.queues, str) or not self.queues:
            raise InvalidInput(f"queues= takes one name or more, not {self.queues!r:.60}")
        for queue in self.queues:
            checks.queue(queue)
        for tenant in self.tenants or ():
            checks.uuid("tenants", tenant)
        checks.whole("concurrency", self.concurrency, least=1, most=claims.LARGEST_BATCH)
        checks.lease(self.lease)
        checks.span("poll", self.poll, least=timedelta(milliseconds=10))
        checks.span("drain", self.drain)
        checks.text("name", self.name, most=200)
