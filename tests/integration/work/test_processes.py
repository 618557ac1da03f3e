"""Workers as processes: what SIGTERM lets end and gives back, and what SIGKILL leaves to others."""

from __future__ import annotations

import json
import os
import random
import select
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from judge import judged, wait_until_at_most

from tenantry import tasks

CHILD = Path(__file__).with_name("child.py")


@contextmanager
def worker(fleet, tenant, *, colour="sync", seconds=0.3, **options):
    """A process that works until it is told to end."""
    told = {
        "catalog": fleet.catalog_conninfo(),
        "tenant": str(tenant),
        "colour": colour,
        "seconds": seconds,
        "options": options,
    }
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, str(CHILD)], stdin=pipe, stdout=pipe, text=True
    ) as child:
        try:
            child.stdin.write(json.dumps(told) + "\n")
            child.stdin.flush()
            yield child
        finally:
            child.kill()


@pytest.mark.slow
@pytest.mark.parametrize("colour", ["sync", "async"])
def test_sigterm_drains(laid_out, router, tenant, colour):
    """What ends in time is done, the rest is ready again with all its attempts, none is claimed."""
    quick, stuck, later = (tasks.NewTask(it) for it in ("quick", "stuck", "quick"))
    router.run(tasks.submit(tenant, [quick, stuck]), tenant=tenant)
    with worker(laid_out, tenant, colour=colour, drain=1.0, concurrency=2) as child:
        began = {child.stdout.readline().split()[1] for _ in range(2)}
        child.send_signal(signal.SIGTERM)
        router.run(tasks.submit(tenant, [later]), tenant=tenant)
        assert child.stdout.readline() == "ended\n"
        assert child.wait(30) == 0
    assert began == {str(quick.id), str(stuck.id)}
    found = [router.run(tasks.get(tenant, it.id), tenant=tenant) for it in (quick, stuck, later)]
    assert [it.state for it in found] == ["done", "ready", "ready"]
    assert [(it.attempt, it.owner) for it in found[1:]] == [(0, None)] * 2


def await_a_beginning(child, feed):
    """Return when the child has just begun a task; feed it until then."""
    said = child.stdout.fileno()

    def began(within):
        told = select.select([said], [], [], within)[0]
        assert not told or os.read(said, 65536), "the worker ended by itself"
        return bool(told)

    while True:
        while began(0):
            pass
        if began(0.1):
            return
        # The others may do all there is before this one has so much as started.
        feed()


@pytest.mark.slow
def test_workers_that_are_killed_lose_nothing(laid_out, router, tenant):
    """SIGKILL to one of three processes every moment, half of them async: judged by history."""
    chance, killed = random.Random(4), 4
    retry = tasks.Retry(crashes=10_000)
    graph, edges = [], []

    def submit_row():
        row = [tasks.NewTask("quick", retry=retry) for _ in range(6)]
        needs = [tasks.Edge(two.id, one.id) for one, two in pairwise(row)]
        router.run(tasks.submit(tenant, row, needs), tenant=tenant)
        graph.extend(row)
        edges.extend(needs)

    for _ in range(15):
        submit_row()
    with ExitStack() as stack:

        def start():
            colour = chance.choice(["sync", "async"])
            options = {"colour": colour, "seconds": 0.05, "lease": 1.0, "concurrency": 3}
            return stack.enter_context(worker(laid_out, tenant, **options))

        running = [start() for _ in range(3)]
        for _ in range(killed):
            victim = running.pop(0)
            # Whoever has just begun something holds a claim.
            await_a_beginning(victim, submit_row)
            victim.kill()
            running.append(start())
        wait_until_at_most(router, tenant, 0)
    proof = judged(router, tenant, edges)
    assert proof.done == proof.tasks == len(graph)
    assert proof.taken_over >= killed
