"""Drive the load: Locust as a library, in a process whose standard library gevent has patched."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from locust.env import Environment

from tenantry import Router
from tenantry_loadtest.cooperation import interleave
from tenantry_loadtest.journal import Journal, read_history
from tenantry_loadtest.plan import DEADLINE_S
from tenantry_loadtest.report import Tally
from tenantry_loadtest.users import Stage, users_on

if TYPE_CHECKING:
    from collections.abc import Callable

    from gevent.event import Event

    from tenantry_loadtest.plan import Drive

_TELL_S = 0.25
# Locust warns above this rate.
_MOST_STARTS_PER_SECOND = 100


def drive(plan: Drive, stopped: Event, tell: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Run users until the plan's time is over or the event is set; return what came of it.

    :param tell: is told of the seconds that went by and the calls that were made, again and again
    """
    record = Path(plan.record)
    run = read_history(record).run
    with (
        Journal.append(record) as journal,
        Router(plan.catalog, application=run.name, deadline=DEADLINE_S) as router,
    ):
        slept = interleave(router, run.seats[0])
        tally = Tally()
        seconds = _swarm(Stage(router, run, journal), plan, tally, stopped, tell)
    return {
        "interleaved_s": round(slept, 3),
        "seconds": round(seconds, 1),
        "operations": tally.rows(seconds),
        "errors": tally.errors(),
    }


def _swarm(
    stage: Stage,
    plan: Drive,
    tally: Tally,
    stopped: Event,
    tell: Callable[[dict[str, Any]], None],
) -> float:
    environment = Environment(user_classes=[users_on(stage)])
    events = environment.events
    events.request.add_listener(tally.on_request)  # type: ignore[no-untyped-call]  # Locust's
    events.user_error.add_listener(tally.on_user_error)  # type: ignore[no-untyped-call]  # Locust's
    runner = environment.create_local_runner()
    started = time.monotonic()
    runner.start(plan.users, spawn_rate=min(plan.users, _MOST_STARTS_PER_SECOND))
    try:
        while (passed := time.monotonic() - started) < plan.seconds:
            tell({"passed": passed, "calls": tally.calls})
            if stopped.wait(min(_TELL_S, plan.seconds - passed)):
                break
    finally:
        stage.over.set()
        # Each user ends its call, which its deadline bounds.
        runner.user_greenlets.join(DEADLINE_S + 5)
        runner.quit()
    return time.monotonic() - started
