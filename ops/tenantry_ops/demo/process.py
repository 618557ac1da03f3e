"""A process of the demo: a worker that serves the fleet, or an actor that is going to be killed.

It reads who it is as JSON from standard input, so that no connection string is seen in the list of
processes, and says on standard output when it is at work.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import TYPE_CHECKING, Any
from uuid import UUID

from tenantry import Router, Worker, actors, tasks

if TYPE_CHECKING:
    from tenantry import Job

#: The kind of the graph's tasks, and the actor's own queue.
KIND = "install"
PLAN = "plan"


def main() -> None:
    """Do what standard input says, until killed or told to stop."""
    line = sys.stdin.readline()
    if not line:
        # The parent ended before it said anything.
        return
    told = json.loads(line)
    # A worker's sessions are known by its name: whoever kills it can wait for their end.
    application = told.get("name", "tenantry-demo")
    with Router(told["catalog"], application=application, pool_size=10) as router:
        if told["role"] == "actor":
            _act(router, UUID(told["tenant"]), UUID(told["actor"]))
        else:
            _work(router, told)


def _work(router: Router, told: dict[str, Any]) -> None:
    def install(job: Job) -> dict[str, str]:
        time.sleep(told["seconds"])
        return {"installed": job.payload["package"]}

    worker = Worker(router, {KIND: install}, lease=told["lease"], poll=0.2, name=told["name"])
    print("at work", flush=True)  # noqa: T201  the parent waits for it
    # Nobody begins before all are there: a small graph would be done by the first alone.
    sys.stdin.readline()

    def until_the_parent_ends() -> None:
        sys.stdin.read()
        worker.stop()

    threading.Thread(target=until_the_parent_ends, daemon=True).start()
    worker.run()


def _act(router: Router, tenant: UUID, actor: UUID) -> None:
    """Finish one of three tasks, keep how far the second is, and wait to be killed."""
    me = router.run(actors.activate(tenant, actor), tenant=tenant).actor
    first, second, _ = router.run(tasks.claim(tenant, me, queue=PLAN, most=3), tenant=tenant)
    router.run(tasks.finish(first, {"by": me.owner}), tenant=tenant)
    router.run(tasks.progress(second, {"half": True}), tenant=tenant)
    router.run(actors.save(me, {"finished": [first.payload["step"]]}), tenant=tenant)
    print("at work", flush=True)  # noqa: T201  the parent waits for it
    sys.stdin.readline()
