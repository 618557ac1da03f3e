"""Flows that finish together, in every order in which they may be performed."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from uuid import UUID

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.errors import LeaseLost, Unavailable
from tenantry.work.conclude import Concluder
from tenantry.work.flow import Pause, Run
from tenantry.work.job import Job
from tenantry_schema.store.rows import Claim

TENANTS = UUID(int=1), UUID(int=2)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def job(number):
    """Tasks of two tenants, in turns."""
    claim = Claim(
        tenant=TENANTS[number % 2], id=UUID(int=100 + number), fence=1, queue="q", kind="k",
        payload={}, priority=0, attempt=1, crashes=0, max_attempts=3, max_crashes=5,
        backoff_ms=1, backoff_most_ms=1, exhausted="failed", lease_until=NOW, deadline=None,
        late=False, agent=None, actor=None, progress=None, owner="w",
    )  # fmt: skip
    return Job(claim, float("inf"))


class Store:
    """What Postgres would say: some claims are lost, some results refused; once it is away.

    :ivar flights: the tasks of each statement that came through
    """

    def __init__(self, *, lost, refused, away):
        self.lost, self.refused, self.away = lost, refused, away
        self.flights = []
        self.failed = []

    def perform(self, step):
        if isinstance(step, Pause):
            return None
        if self.away:
            self.away -= 1
            raise Unavailable("away")
        work = step.work()
        query = next(work)
        ids = query.params["ids"]
        if "results" in query.params and self.refused & set(ids):
            raise psycopg.DataError("refused")
        if "results" not in query.params:
            self.failed += ids
        self.flights.append((step.tenant, ids))
        try:
            work.send([(it, False) for it in ids if it not in self.lost])
        except StopIteration as stop:
            return stop.value
        raise AssertionError("one statement was expected")


def advance(flow, store, step):
    """Perform the step that a flow waits for, and take its next one."""
    try:
        result = store.perform(step)
    except (Unavailable, LeaseLost, psycopg.DataError) as error:
        return flow.throw(error)
    return flow.send(result)


@given(st.data())
def test_each_job_is_concluded_once_in_any_order(data):
    """Finished by one flight or failed for itself, dropped once, and nobody is left waiting."""
    jobs = [job(it) for it in range(data.draw(st.integers(1, 8)))]
    ids = [it.claim.id for it in jobs]
    some = st.sets(st.sampled_from(ids))
    lost, refused = data.draw(some), data.draw(some)
    store = Store(lost=lost, refused=refused, away=data.draw(st.integers(0, 3)))
    dropped = []
    concluder = Concluder("w", dropped.extend)
    unborn, flows = list(jobs), []
    while unborn or flows:
        if unborn and (not flows or data.draw(st.booleans())):
            one = unborn.pop()
            flow = concluder.conclude(one, concluder.finished(one, 1))
            with suppress(StopIteration):
                flows.append((flow, next(flow)))
            continue
        flow, step = flows.pop(data.draw(st.integers(0, len(flows) - 1)))
        with suppress(StopIteration):
            flows.append((flow, advance(flow, store, step)))
    assert sorted(it.claim.id for it in dropped) == sorted(ids)
    flown = [it for _, flight in store.flights for it in flight]
    assert sorted(flown) == sorted(ids)
    assert set(store.failed) == refused
    assert all(UUID(int=1 + (it.int % 2)) == tenant for tenant, of in store.flights for it in of)
    assert not concluder._together._waiting


@given(st.integers(1, 5), st.integers(0, 5))
def test_a_flow_that_is_ended_strands_nobody(others, steps):
    """Cancelled while it carries others: all of them are dropped, and the next one flies itself."""
    dropped = []
    concluder = Concluder("w", dropped.extend)
    jobs = [job(2 * it) for it in range(others + 1)]
    leader = concluder.conclude(jobs[0], concluder.finished(jobs[0], None))
    step = next(leader)
    for it in jobs[1:]:
        assert list(concluder.conclude(it, concluder.finished(it, None))) == []
    store = Store(lost=set(), refused=set(), away=steps)
    for _ in range(min(steps, 2)):
        step = advance(leader, store, step)
    leader.close()
    assert {it.claim.id for it in dropped} == {it.claim.id for it in jobs}
    late = job(100)
    flow = concluder.conclude(late, concluder.finished(late, None))
    assert isinstance(next(flow), Run)
    flow.close()


def test_what_nobody_expected_strands_nobody():
    """A flow that fails says so to its door, after it let all go that it carried."""
    dropped = []
    concluder = Concluder("w", dropped.extend)
    jobs = [job(0), job(2)]
    leader = concluder.conclude(jobs[0], concluder.finished(jobs[0], None))
    next(leader)
    assert list(concluder.conclude(jobs[1], concluder.finished(jobs[1], None))) == []
    with pytest.raises(KeyboardInterrupt):
        leader.throw(KeyboardInterrupt())
    assert dropped == jobs
