"""What a worker holds: renewed, lost, claimed anew."""

from __future__ import annotations

import pytest
from jobs import TENANTS, job

from tenantry.work.core import WorkerCore
from tenantry.work.flow import Run
from tenantry.work.options import WorkerOptions


@pytest.fixture
def core():
    return WorkerCore(WorkerOptions(lease=60))


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
