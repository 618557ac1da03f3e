"""What a worker holds: renewed, lost, claimed anew."""

from __future__ import annotations

import pytest
from jobs import TENANTS, job

from tenantry.work.core import WorkerCore
from tenantry.work.flow import Run
from tenantry.work.options import WorkerOptions
from tenantry.work.ring import Turn


@pytest.fixture
def core():
    return WorkerCore(WorkerOptions(lease=60), lambda: None)


def hold(core, *jobs):
    core.held.update((it.claim.id, it) for it in jobs)


def test_a_claim_that_is_gone_is_not_renewed(core):
    """Its job learns of it, and what is tried again for it ends with the former lease."""
    kept, gone = job(0), job(2)
    kept.expires = gone.expires = 1.0
    hold(core, kept, gone)
    flow = core.renew()
    step = next(flow)
    assert isinstance(step, Run)
    assert step.tenant == TENANTS[0]
    with pytest.raises(StopIteration) as ended:
        flow.send({gone.claim.id})
    assert ended.value.value == [gone]
    assert (gone.lost, gone.expires) == (True, 1.0)
    assert (kept.lost, kept.expires > 1.0) == (False, True)


def test_dropping_keeps_a_later_claim_of_the_same_task(core):
    """A worker may claim again what it lost itself."""
    former, later = job(0), job(0)
    hold(core, former)
    hold(core, later)
    core.drop(former)
    assert core.held == {later.claim.id: later}
    core.drop(later)
    assert core.held == {}


def test_room_is_for_what_runs():
    """What is being finished does not count, until as much of it is held as may run."""
    core = WorkerCore(WorkerOptions(concurrency=2), lambda: None)
    jobs = [job(it) for it in range(4)]
    assert core.room == 2
    hold(core, *jobs[:2])
    assert core.room == 0
    for it in jobs[:2]:
        it.finishing = True
    assert core.room == 2
    hold(core, *jobs[2:])
    jobs[2].finishing = True
    assert core.room == 0
    core.drop(jobs[0])
    assert core.room == 1


def test_a_job_within_a_limit_offers_its_tenants_turns():
    """Whatever its queue was: the limit may be the tenant's."""
    core = WorkerCore(WorkerOptions(queues=["a", "b"]), lambda: None)
    free, limited = job(0), job(1)
    limited.limited = True
    for it in (free, limited):
        core.drop(it)
    assert [core.ring.take() for _ in range(3)] == [
        Turn(TENANTS[1], "a"),
        Turn(TENANTS[1], "b"),
        None,
    ]
