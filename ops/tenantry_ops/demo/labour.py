"""Run the graph to its end with processes, kill some in the middle, and prove that it was right."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from tenantry import LeaseLost, Query, Router, actors, history, tasks
from tenantry_ops.demo.process import PLAN
from tenantry_ops.demo.proof import prove
from tenantry_ops.fleet.process import tied_to_us
from tenantry_schema.errors import TenantryError
from tenantry_schema.naming import OPERATOR

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from uuid import UUID

    from tenantry.history import Transition
    from tenantry_ops.demo.work import DemoTenant
    from tenantry_ops.fleet import Fleet

#: Seconds after which the tasks of a killed worker are taken over.
_LEASE = 3.0
_UNFINISHED = """
SELECT count(*) FROM fleet.tasks WHERE state IN ('waiting', 'ready', 'running')
"""
_HELD = "SELECT count(*) FROM fleet.tasks WHERE state = 'running' AND owner = %s"
_SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
_LOOK_S = 0.01
# By -m Python would warn that the package had imported the module before.
_MAIN = "from tenantry_ops.demo.process import main; main()"


def run_to_completion(
    router: Router,
    fleet: Fleet,
    edges: dict[DemoTenant, list[tuple[UUID, UUID]]],
    *,
    workers: int,
    step: Callable[[str, int, int], None],
) -> dict[str, Any]:
    """Let an actor and a worker die in the middle of the work; return what the history proves.

    :param edges: of each tenant, (task, what it needs)
    :raises TenantryError: when the history is not right
    """
    began = datetime.now(UTC)
    acted = _kill_an_actor(router, next(iter(edges)))
    with Router(fleet.catalog_conninfo(OPERATOR), application="tenantry-demo") as operator:
        killed = _labour(router, operator, fleet.catalog_conninfo(), workers, step)
    proof = prove(_history(router, edges, began), [it for its in edges.values() for it in its])
    if proof.faults or proof.done != proof.tasks:
        raise TenantryError(f"the history is not right: {proof.faults[:3]}")
    counted = asdict(proof)
    del counted["faults"]
    return {"proof": counted, "killed": killed, "recovered": acted}


def _labour(
    router: Router,
    operator: Router,
    catalog: str,
    count: int,
    step: Callable[[str, int, int], None],
) -> dict[str, Any]:
    """Start the workers, kill one that holds claims when a third is done, wait for the rest."""
    of = _counted(operator, Query(_UNFINISHED))
    names = [f"demo-{router.map.fleet_id}-{number}" for number in range(count)]
    killed: dict[str, Any] = {}
    # A small graph takes long enough to be interrupted.
    seconds = min(0.3, max(0.002, 4 / max(1, of)))
    with _processes([_told(catalog, name, seconds) for name in names]) as running:
        for process in running:
            _say(process, "begin")
        while left := _counted(operator, Query(_UNFINISHED)):
            step("run the graph of every tenant", of - left, of)
            if not killed and (left <= of * 2 / 3 or left < count):
                killed = _kill_one(operator, dict(zip(names, running, strict=True)))
    return killed


def _kill_one(operator: Router, running: dict[str, subprocess.Popen[str]]) -> dict[str, Any]:
    """Stop one worker after the other until one is found that holds claims, and kill that one."""
    for name, process in running.items():
        process.send_signal(signal.SIGSTOP)
        try:
            if _counted(operator, Query(_HELD, (name,))):
                process.kill()
                # What it had sent to a server still happens, and may be a claim.
                while _counted(operator, Query(_SESSIONS, (name,))):
                    time.sleep(_LOOK_S)
                held = _counted(operator, Query(_HELD, (name,)))
                return {"worker": name, "signal": "SIGKILL", "claims_held": held}
        finally:
            process.send_signal(signal.SIGCONT)
    return {}


def _kill_an_actor(router: Router, tenant: DemoTenant) -> dict[str, Any]:
    """Let an actor die over its work; return what it is told when it comes back."""
    key = tenant.key
    actor = router.run(actors.register(key, kind="planner", agent=tenant.agent), tenant=key).id
    plan = [tasks.NewTask("plan", {"step": it}, queue=PLAN, actor=actor) for it in ("a", "b", "c")]
    router.run(tasks.submit(key, plan), tenant=key)
    told = {
        "role": "actor",
        "catalog": router.settings.catalog,
        "tenant": str(key),
        "actor": str(actor),
    }
    with _processes([told]) as (process,):
        process.kill()
        process.wait()
    said = router.run(actors.recover(key, actor), tenant=key)
    again = router.run(actors.activate(key, actor), tenant=key)
    for claim in said.claims:
        _refused(router, claim)
    for claim in again.claims:
        router.run(tasks.finish(claim, {"by": again.actor.owner}), tenant=key)
    return {
        "actor": f"{said.actor.kind} {actor}",
        "state": said.actor.state,
        "claims": [f"{it.kind} {it.payload['step']}" for it in said.claims],
        "progress": [it.progress for it in said.claims if it.progress],
        "unfinished": len(said.unfinished),
        "incarnation": again.actor.generation,
        "taken_over": len(again.claims),
    }


def _refused(router: Router, claim: tasks.Claim) -> None:
    try:
        router.run(tasks.finish(claim, "from before the crash"), tenant=claim.tenant)
    except LeaseLost:
        return
    raise TenantryError(f"an older incarnation finished task {claim.id}: it must be refused")


def _history(
    router: Router, edges: dict[DemoTenant, list[tuple[UUID, UUID]]], began: datetime
) -> Iterator[Transition]:
    since, until = began - timedelta(hours=1), datetime.now(UTC) + timedelta(hours=1)
    for tenant in edges:
        after = None
        while page := router.run(
            history.transitions(tenant.key, since=since, until=until, after=after),
            tenant=tenant.key,
        ):
            yield from page
            after = page[-1]


def _counted(operator: Router, query: Query) -> int:
    return sum(row[0] for row in operator.scatter(query).all())


def _told(catalog: str, name: str, seconds: float) -> dict[str, Any]:
    return {
        "role": "worker",
        "catalog": catalog,
        "name": name,
        "lease": _LEASE,
        "seconds": seconds,
    }


def _say(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(line + "\n")
        process.stdin.flush()
    except BrokenPipeError as error:
        raise TenantryError("a process of the demo ended before it was told what to do") from error


def _process() -> subprocess.Popen[str]:
    return subprocess.Popen(  # noqa: S603
        tied_to_us([sys.executable, "-c", _MAIN], "KILL"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # Ctrl-C is for the demo alone, which ends its processes in order.
        start_new_session=True,
    )


@contextmanager
def _processes(told: list[dict[str, Any]]) -> Iterator[list[subprocess.Popen[str]]]:
    """Run processes that are at work, and end them."""
    running = [_process() for _ in told]
    try:
        for process, who in zip(running, told, strict=True):
            _say(process, json.dumps(who))
        for process in running:
            assert process.stdout is not None
            if process.stdout.readline() != "at work\n":
                raise TenantryError("a process of the demo did not come to work: see above")
        yield running
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.communicate()
