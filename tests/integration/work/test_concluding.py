"""How attempts end on real servers: together where they can, each for itself where they must."""

from __future__ import annotations

import asyncio
import sys
import threading
from contextlib import contextmanager

import psycopg
import pytest
from at_work import aworking, state, submit, working
from fix_router import until
from psycopg import sql
from reading import shard_of

from tenantry import AsyncRouter, AsyncWorker, Effects, Query, tasks
from tenantry.work import conclude
from tenantry_schema.naming import SHARD_DATABASE

ROW = "SELECT xmin FROM tasks WHERE tenant_id = %s AND id = %s"


@contextmanager
def held_up(fleet, router, tenant):
    """Keep the tenant's history, so that what changes a task's state waits."""
    server = shard_of(fleet, router, tenant).primary
    table = sql.Identifier(router.where(tenant=tenant).schema, "transitions")
    with psycopg.connect(fleet.superuser_conninfo(server, SHARD_DATABASE)) as conn:
        conn.execute(sql.SQL("LOCK TABLE {} IN SHARE MODE").format(table))
        yield


def waits(router, tenant):
    """Say whether a statement on the tenant's shard waits for a lock."""
    with router.connection(tenant=tenant) as conn:
        return conn.execute("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)").fetchone()[0]


def transactions(router, tenant, *of):
    """Return which transaction wrote each task last."""
    with router.connection(tenant=tenant) as conn:
        return [conn.execute(ROW, (tenant, it.id)).fetchone()[0] for it in of]


def waiting(worker, tenant):
    """Return how many finishes wait for one in flight."""
    air = worker._core.concluder._together._air.get(tenant)
    return 0 if air is None else len(air.waiting)


class Gates:
    """Handlers that return when the test lets them."""

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


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """Finishes that wait for one in flight for as long as it takes."""
    monkeypatch.setattr(conclude, "_OVERDUE_S", 60.0)


@pytest.fixture
def four():
    return [tasks.NewTask(kind) for kind in "abcd"]


@contextmanager
def in_hand(router, tenant, four, gates):
    """Four tasks in the hands of a worker."""
    submit(router, tenant, *four)
    with working(router, gates.handlers, tenants=[tenant]) as worker:
        for it in four:
            assert gates.started[it.kind].wait(30)
        yield worker
        until(lambda: not worker._core.held)


def three_behind_one(fleet, router, tenant, worker, gates):
    """Let one task's finish be held up, and three others return meanwhile."""
    with held_up(fleet, router, tenant):
        gates.open["a"].set()
        until(lambda: waits(router, tenant))
        for it in "bcd":
            gates.open[it].set()
        until(lambda: waiting(worker, tenant) == 3)


def test_finishes_that_come_meanwhile_fly_together(laid_out, router, tenant, four):
    """One transaction for the first, and one for the three that came while it was away."""
    gates = Gates(*four)
    with in_hand(router, tenant, four, gates) as worker:
        three_behind_one(laid_out, router, tenant, worker, gates)
    assert {state(router, tenant, it) for it in four} == {"done"}
    assert [router.run(tasks.get(tenant, it.id), tenant=tenant).result for it in four] == [*"abcd"]
    first, *others = transactions(router, tenant, *four)
    assert len(set(others)) == 1
    assert first not in others


def test_a_lost_claim_takes_nobody_along(laid_out, router, tenant, four, caplog):
    """One of the three was cancelled: it stays so, and the others are done."""
    gates = Gates(*four)
    with in_hand(router, tenant, four, gates) as worker:
        router.run(tasks.cancel(tenant, [four[2].id]), tenant=tenant)
        three_behind_one(laid_out, router, tenant, worker, gates)
    assert [state(router, tenant, it) for it in four] == ["done", "done", "cancelled", "done"]
    assert f"task {four[2].id} (c)" in caplog.text
    assert "no longer held" in caplog.text


def test_a_row_that_somebody_holds_keeps_its_own_finish(laid_out, router, tenant, four):
    """The flight leaves it behind, and arrives with the others."""
    gates = Gates(*four)
    with in_hand(router, tenant, four, gates) as worker:
        with router.connection(tenant=tenant) as conn:
            conn.execute(f"{ROW} FOR UPDATE", (tenant, four[1].id))
            three_behind_one(laid_out, router, tenant, worker, gates)
            others = [four[0], *four[2:]]
            until(lambda: {state(router, tenant, it) for it in others} == {"done"})
            assert state(router, tenant, four[1]) == "running"
    assert state(router, tenant, four[1]) == "done"


def test_a_result_that_postgres_refuses_fails_its_own_attempt(laid_out, router, tenant, four):
    """A number that Python can write and jsonb cannot hold: the other two are done."""
    gates = Gates(*four)
    gates.returns["b"] = 10**200_000
    four[1] = tasks.NewTask("b", retry=tasks.Retry(attempts=1), id=four[1].id)
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        with in_hand(router, tenant, four, gates) as worker:
            three_behind_one(laid_out, router, tenant, worker, gates)
    finally:
        sys.set_int_max_str_digits(before)
    assert [state(router, tenant, it) for it in four] == ["done", "failed", "done", "done"]
    assert "overflows numeric" in router.run(tasks.get(tenant, four[1].id), tenant=tenant).error


async def test_async_finishes_fly_together(laid_out, router, tenant, four):
    """The same by coroutines."""
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
        with held_up(laid_out, router, tenant):
            gates["a"].set()
            await asyncio.to_thread(until, lambda: waits(router, tenant))
            for it in gates.values():
                it.set()
            await asyncio.to_thread(until, lambda: waiting(worker, tenant) == 3)
        await asyncio.to_thread(until, finished)
    first, *others = transactions(router, tenant, *four)
    assert (len(set(others)), first in others) == (1, False)


@pytest.mark.parametrize("error", [SystemExit(3), asyncio.CancelledError()])
def test_a_callable_that_ends_its_thread_fails_its_attempt(router, tenant, error):
    """The worker has as many threads as before."""

    def handler(_job):
        raise error

    made = [tasks.NewTask("k", retry=tasks.Retry(attempts=1)) for _ in range(3)]
    submit(router, tenant, *made)
    with working(router, {"k": handler}, tenants=[tenant], concurrency=1) as worker:
        until(lambda: {state(router, tenant, it) for it in made} == {"failed"})
        until(lambda: not worker._core.held)


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


def test_another_claim_that_its_effects_lost_fails_the_attempt(router, tenant):
    """It is not the job's own, which is not left to its lease."""
    other = tasks.NewTask("other", queue="others")
    submit(router, tenant, other)
    (ended,) = router.run(tasks.claim(tenant, "me", queue="others"), tenant=tenant)
    router.run(tasks.finish(ended), tenant=tenant)
    task = tasks.NewTask("k", retry=tasks.Retry(attempts=1))
    submit(router, tenant, task)
    with working(router, {"k": lambda _: Effects(tasks.finish(ended))}, tenants=[tenant]):
        until(lambda: state(router, tenant, task) == "failed")
    error = router.run(tasks.get(tenant, task.id), tenant=tenant).error
    assert error.startswith(f"LeaseLost: task {other.id}")


async def test_a_worker_that_is_cancelled_within_a_claim_stops(laid_out, router, tenant):
    """Although nobody can tell then whether the claim was made."""
    await asyncio.to_thread(submit, router, tenant, tasks.NewTask("k"))
    async with AsyncRouter(laid_out.catalog_conninfo()) as arouter:
        worker = AsyncWorker(arouter, {}, tenants=[tenant], listen=False)
        with held_up(laid_out, router, tenant):
            running = asyncio.create_task(worker.run(signals=False))
            await asyncio.to_thread(until, lambda: waits(router, tenant))
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
