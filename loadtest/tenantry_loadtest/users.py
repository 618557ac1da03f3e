"""Locust's users: greenlets that do what the workload decided."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, ClassVar

from gevent.event import Event
from locust import User, task
from locust.exception import StopUser

from tenantry_loadtest.client import Client
from tenantry_loadtest.workload import operations

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tenantry import Router
    from tenantry_loadtest.history import Run
    from tenantry_loadtest.journal import Journal


@dataclass(frozen=True, slots=True)
class Stage:
    """What all users share: a service has one router for each process.

    :ivar over: set when users are to end
    """

    router: Router
    run: Run
    journal: Journal
    over: Event = field(default_factory=Event)
    numbers: Iterator[int] = field(default_factory=count)


class ServiceUser(User):
    """A user of a service that routes its tenants' work."""

    abstract = True
    stage: ClassVar[Stage]

    def on_start(self) -> None:
        """Take the next number, from which all that the user does follows."""
        stage = self.stage
        seats = stage.run.seats
        self._client = Client(
            stage.router, seats, stage.journal, self.environment.events.request.fire
        )
        self._operations = operations(
            run=stage.run.name, seed=stage.run.seed, user=next(stage.numbers), seats=len(seats)
        )

    @task
    def serve(self) -> None:
        """Think, then do the next operation, unless the run is over."""
        operation = next(self._operations)
        # Locust stops a user that waits by killing it: one that wakes up in that very moment would
        # be found in the midst of its next call. So users wait here, and end by themselves.
        if self.stage.over.wait(operation.pause):
            raise StopUser
        self._client.do(operation)


def users_on(stage: Stage) -> type[User]:
    """Return the class of a stage's users."""
    return type("Service", (ServiceUser,), {"stage": stage})
