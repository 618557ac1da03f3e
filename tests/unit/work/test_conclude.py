"""Flows that finish together, in every order in which they may be performed."""

from __future__ import annotations

from contextlib import suppress
from uuid import UUID

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jobs import TENANTS, job

from tenantry.errors import LeaseLost, Unavailable
from tenantry.work.conclude import Concluder
from tenantry.work.flow import Landing, Pause, Run
from tenantry.work.together import MOST_ABOARD, Together, Told


class Store:
    """What Postgres would say: some claims are lost, some results refused; once it is away.

    :ivar flights: the tasks that each statement changed
    """

    def __init__(self, *, lost=(), refused=(), away=0):
        self.lost, self.refused, self.away = set(lost), set(refused), away
        self.flights = []
        self.failed = []

    def perform(self, step):
        if not isinstance(step, Run):
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
        changed = [it for it in ids if it not in self.lost]
        self.flights.append((step.tenant, changed))
        try:
            work.send([(it,) for it in changed])
        except StopIteration as stop:
            return stop.value
        raise AssertionError("one statement was expected")

    def advance(self, flow, step):
        """Perform the step that a flow waits for, and take its next one."""
        try:
            result = self.perform(step)
        except (Unavailable, LeaseLost, psycopg.DataError) as error:
            return flow.throw(error)
        return flow.send(result)


class Flows:
    """Flows of one worker, and the step that each waits for."""

    def __init__(self, store):
        self.store = store
        self.concluder = Concluder("w")
        self.waiting = []

    def begin(self, one):
        flow = self.concluder.conclude(one, self.concluder.finished(one, 1))
        self.waiting.append((flow, next(flow)))
        return flow

    def advance(self, which):
        flow, step = self.waiting.pop(which)
        with suppress(StopIteration):
            self.waiting.append((flow, self.store.advance(flow, step)))

    def finish(self):
        """Perform what is left as its threads would: nobody waits for ever."""
        for _ in range(1000):
            ready = [
                number
                for number, (_, step) in enumerate(self.waiting)
                if not isinstance(step, Landing) or step.told.done()
            ]
            if not ready:
                break
            self.advance(ready[0])
        assert self.waiting == []
        assert not self.concluder._together._air


@given(st.data())
def test_each_job_is_concluded_once_in_any_order(data):
    """Finished by one flight or failed for itself, whoever waits, loses patience, or is refused."""
    jobs = [job(it) for it in range(data.draw(st.integers(1, 8)))]
    ids = [it.claim.id for it in jobs]
    some = st.sets(st.sampled_from(ids))
    lost, refused = data.draw(some), data.draw(some)
    store = Store(lost=lost, refused=refused, away=data.draw(st.integers(0, 3)))
    flows, unborn = Flows(store), list(jobs)
    for _ in range(data.draw(st.integers(0, 30))):
        if unborn and (not flows.waiting or data.draw(st.booleans())):
            flows.begin(unborn.pop())
        elif flows.waiting:
            # One that waits for a landing is sent on too: its patience has ended.
            flows.advance(data.draw(st.integers(0, len(flows.waiting) - 1)))
    for one in unborn:
        flows.begin(one)
    flows.finish()
    flown = [it for _, flight in store.flights for it in flight]
    assert sorted(flown) == sorted(set(ids) - lost)
    assert set(store.failed) == refused
    assert all(UUID(int=1 + (it.int % 2)) == tenant for tenant, of in store.flights for it in of)


@given(st.data())
def test_a_flow_that_is_ended_strands_nobody(data):
    """Pilots with passengers, pilots that were just named, and those who wait: the rest is done."""
    jobs = [job(2 * it) for it in range(data.draw(st.integers(2, 6)))]
    store = Store(away=data.draw(st.integers(0, 1)))
    flows = Flows(store)
    for one in jobs:
        flows.begin(one)
    for _ in range(data.draw(st.integers(0, 6))):
        flows.advance(data.draw(st.integers(0, len(flows.waiting) - 1)))
        if not flows.waiting:
            return
    flow, _ = flows.waiting.pop(data.draw(st.integers(0, len(flows.waiting) - 1)))
    if data.draw(st.booleans()):
        flow.close()
    else:
        with pytest.raises(KeyboardInterrupt):
            flow.throw(KeyboardInterrupt())
    flows.finish()
    flown = [it for _, flight in store.flights for it in flight]
    assert len(flown) == len(set(flown)) >= len(jobs) - 1


def test_three_that_wait_share_the_next_flight():
    """And the first of them flies it."""
    store = Store()
    flows = Flows(store)
    for number in range(0, 8, 2):
        flows.begin(job(number))
    flows.finish()
    assert [len(of) for _, of in store.flights] == [1, 3]


def test_a_flight_has_so_many_seats():
    """Who does not find one takes the next."""
    together = Together()
    pilot, *others = [together.board(TENANTS[0], it) for it in range(MOST_ABOARD + 5)]
    assert together.take_off(TENANTS[0]) == [pilot, *others[: MOST_ABOARD - 1]]
    together.land(TENANTS[0], [])
    assert others[MOST_ABOARD - 1].told.result(0) is Told.PILOT
    assert together.take_off(TENANTS[0]) == others[MOST_ABOARD - 1 :]


@pytest.mark.parametrize("sqlstate", ["54000", "54001"])
def test_a_limit_of_postgres_never_passes(sqlstate):
    """It is an operational error, but the same work meets it again: the attempt fails."""
    error = psycopg.errors.lookup(sqlstate)("too large")
    concluder, one = Concluder("w"), job(0)
    flow = concluder.conclude(one, lambda: iter(()))
    assert isinstance(next(flow), Run)
    step = flow.throw(error)
    assert isinstance(step, Run)
    assert type(error).__name__ in next(step.work()).params["error"]


def test_an_ending_is_not_tried_longer_than_its_lease():
    """However often the claim is renewed meanwhile."""
    one = job(0)
    one.expires = 0.0
    flow = Concluder("w").conclude(one, lambda: iter(()))
    assert isinstance(next(flow), Run)
    one.expires = float("inf")
    with pytest.raises(StopIteration):
        flow.throw(Unavailable("away"))


def test_an_ending_is_tried_again_while_its_claim_is_held():
    """After a pause; not when the claim is gone."""
    one = job(0)
    flow = Concluder("w").conclude(one, lambda: iter(()))
    next(flow)
    assert isinstance(flow.throw(Unavailable("away")), Pause)
    assert isinstance(next(flow), Run)
    one.lose()
    with pytest.raises(StopIteration):
        flow.throw(Unavailable("away"))
