"""How attempts end on real servers: together where they can, each for itself where they must."""

from __future__ import annotations

import asyncio
import sys
import threading
from contextlib import contextmanager

import pytest
from at_work import aworking, state, submit, working
from fix_router import until

from tenantry import AsyncRouter, Effects, Query, tasks
from tenantry.work import conclude

ROW = "SELECT xmin FROM tasks WHERE tenant_id = %s AND id = %s"


@contextmanager
def locked(router, tenant, task):
    """Keep a task's row, so that its finish waits."""
    with router.connection(tenant=tenant) as conn:
        conn.execute(f"{ROW} FOR UPDATE", (tenant, task.id))
        yield


def waits(router, tenant):
    """Say whether a statement on the tenant's shard waits for a row."""
    with router.connection(tenant=tenant) as conn:
        found = conn.execute(
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"
        )
        return found.fetchone() != (0,)


def transactions(router, tenant, *of):
    """Return which transaction wrote each task last."""
    with router.connection(tenant=tenant) as conn:
        return [conn.execute(ROW, (tenant, it.id)).fetchone()[0] for it in of]


def waiting(worker, tenant):
    """Return how many finishes wait for one in flight."""
    air = worker._core.concluder._together._air.get(tenant)
    return 0 if air is None else len(air.waiting)


class Gates:
    """Handlers that return when the test lets them, and a count of those that did."""

    def __init__(self, *graph):
        self.started = {it.kind: threading.Event() for it in graph}
        self.open = {it.kind: threading.Event() for it in graph}
        self.returns = {it.kind: it.kind for it in graph}

    def handler(self, job):
        kind = job.claim.kind
        self.started[kind].set()
        assert self.open[kind].wait(60)
        return self.returns[kind]

    @property
    def handlers(self):
        return dict.fromkeys(self.open, self.handler)


@pytest.fixture
def patient(monkeypatch):
    """Finishes that wait for one in flight for as long as it takes."""
    monkeypatch.setattr(conclude, "_OVERDUE_S", 60.0)


@pytest.fixture
def four():
    return [tasks.NewTask(kind) for kind in "abcd"]


@contextmanager
def three_behind_one(router, tenant, four, gates):
    """Let one task's finish wait for a lock, and three others return meanwhile."""
    first, *others = four
    submit(router, tenant, *four)
    with working(router, gates.handlers, tenants=[tenant]) as worker:
        for it in four:
            assert gates.started[it.kind].wait(30)
        with locked(router, tenant, first):
            gates.open["a"].set()
            until(lambda: waits(router, tenant))
            for it in others:
                gates.open[it.kind].set()
            until(lambda: waiting(worker, tenant) == 3)
            yield
        until(lambda: not worker._core.held)


def test_finishes_that_come_meanwhile_fly_together(router, tenant, patient, four):
    """One transaction for the first, and one for the three that came while it was away."""
    with three_behind_one(router, tenant, four, Gates(*four)):
        assert {state(router, tenant, it) for it in four} == {"running"}
    assert {state(router, tenant, it) for it in four} == {"done"}
    assert [router.run(tasks.get(tenant, it.id), tenant=tenant).result for it in four] == [*"abcd"]
    first, *others = transactions(router, tenant, *four)
    assert len(set(others)) == 1
    assert first not in others


def test_a_lost_claim_takes_nobody_along(router, tenant, patient, four, caplog):
    """One of three was cancelled while it waited: it stays so, and the others are done."""
    with three_behind_one(router, tenant, four, Gates(*four)):
        router.run(tasks.cancel(tenant, [four[2].id]), tenant=tenant)
    assert [state(router, tenant, it) for it in four] == ["done", "done", "cancelled", "done"]
    assert f"task {four[2].id} (c)" in caplog.text
    assert "no longer held" in caplog.text


def test_a_result_that_postgres_refuses_fails_its_own_attempt(router, tenant, patient, four):
    """A number that Python can write and jsonb cannot hold: the other two are done."""
    gates = Gates(*four)
    gates.returns["b"] = 10**200_000
    four[1] = tasks.NewTask("b", retry=tasks.Retry(attempts=1), id=four[1].id)
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        with three_behind_one(router, tenant, four, gates):
            pass
    finally:
        sys.set_int_max_str_digits(before)
    assert [state(router, tenant, it) for it in four] == ["done", "failed", "done", "done"]
    assert "overflows numeric" in router.run(tasks.get(tenant, four[1].id), tenant=tenant).error


async def test_async_finishes_fly_together(laid_out, router, tenant, patient, four):
    """The same by coroutines, whose tasks end before their finish is away."""
    submit(router, tenant, *four)
    started, gates = asyncio.Barrier(len(four) + 1), {kind: asyncio.Event() for kind in "abcd"}

    async def handler(job):
        await started.wait()
        await gates[job.claim.kind].wait()

    def finished():
        return {state(router, tenant, it) for it in four} == {"done"}

    async with (
        AsyncRouter(laid_out.catalog_conninfo()) as arouter,
        aworking(arouter, dict.fromkeys(gates, handler), tenants=[tenant]) as worker,
        asyncio.timeout(30),
    ):
        await started.wait()
        async with arouter.connection(tenant=tenant) as conn:
            await conn.execute(f"{ROW} FOR UPDATE", (tenant, four[0].id))
            gates["a"].set()
            await asyncio.to_thread(until, lambda: waits(router, tenant))
            for it in gates.values():
                it.set()
            await asyncio.to_thread(until, lambda: waiting(worker, tenant) == 3)
        await asyncio.to_thread(until, finished)
    first, *others = transactions(router, tenant, *four)
    assert (len(set(others)), first in others) == (1, False)


def test_a_finish_that_waits_too_long_goes_alone(router, tenant, four):
    """The first one is still on its way when the others are done."""
    with three_behind_one(router, tenant, four, Gates(*four)):
        others = four[1:]
        until(lambda: {state(router, tenant, it) for it in others} == {"done"})
        assert state(router, tenant, four[0]) == "running"
    assert state(router, tenant, four[0]) == "done"


@pytest.mark.parametrize("door", ["sync", "async"])
async def test_an_error_that_says_nothing_fails_the_attempt(laid_out, router, tenant, door):
    """Not even text that Postgres can hold: the job is held no longer."""

    class Silent(Exception):
        def __str__(self):
            raise RuntimeError

    errors = {"silent": Silent(), "odd": ValueError("caf\udce9")}
    made = [tasks.NewTask(it, retry=tasks.Retry(attempts=1)) for it in errors]
    submit(router, tenant, *made)

    def handler(job):
        raise errors[job.claim.kind]

    async def ahandler(job):
        handler(job)

    def ended(worker):
        return {state(router, tenant, it) for it in made} == {"failed"} and not worker._core.held

    if door == "sync":
        with working(router, dict.fromkeys(errors, handler), tenants=[tenant]) as worker:
            until(lambda: ended(worker))
    else:
        async with (
            AsyncRouter(laid_out.catalog_conninfo()) as arouter,
            aworking(arouter, dict.fromkeys(errors, ahandler), tenants=[tenant]) as worker,
        ):
            await asyncio.to_thread(until, lambda: ended(worker))
    told = [router.run(tasks.get(tenant, it.id), tenant=tenant).error for it in made]
    assert told == ["Silent (which cannot be printed)", "ValueError: caf\\udce9"]


def test_effects_that_raise_fail_the_attempt(router, tenant):
    """It is tried again as the task says, not left to its lease, and nothing of it is there."""
    task = tasks.NewTask("rename", retry=tasks.Retry(attempts=2, backoff=0.01))
    submit(router, tenant, task)
    tries = []

    def refused():
        tries.append(1)
        yield Query("UPDATE tenants SET name = 'renamed' WHERE tenant_id = %s", (tenant,))
        yield Query("SELECT 1 / 0")

    with working(router, {"rename": lambda _: Effects(refused)}, tenants=[tenant]):
        until(lambda: state(router, tenant, task) == "failed")
    assert len(tries) == 2
    assert "DivisionByZero" in router.run(tasks.get(tenant, task.id), tenant=tenant).error
    with router.connection(tenant=tenant) as conn:
        name = conn.execute("SELECT name FROM tenants WHERE tenant_id = %s", (tenant,)).fetchone()
    assert name != ("renamed",)
