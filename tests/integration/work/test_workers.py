"""Workers on real servers: both colours, signals, lost leases, fairness, what wakes them."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from datetime import UTC, datetime

import pytest
from at_work import aworking, state, submit, working
from fix_router import make_tenant, until

from tenantry import (
    AsyncRouter,
    AsyncWorker,
    Effects,
    InvalidInput,
    Query,
    Router,
    RouterClosed,
    Worker,
    schedules,
    tasks,
)

EXPIRE = (
    "UPDATE tasks SET lease_until = clock_timestamp() - interval '1 ms' "
    "WHERE tenant_id = %s AND id = %s"
)
LOCK = "SELECT FROM tasks WHERE tenant_id = %s AND id = %s FOR UPDATE"


def test_a_graph_runs_to_its_end(router, tenant):
    """By kind, with results; what raises is tried again; what nobody knows fails in the end."""
    a, b = (
        tasks.NewTask("double", {"n": 4}),
        tasks.NewTask("flaky", retry=tasks.Retry(backoff=0.01)),
    )
    c = tasks.NewTask("unknown", retry=tasks.Retry(attempts=2, backoff=0.01))
    submit(router, tenant, a, b, c, edges=[tasks.Edge(b.id, a.id), tasks.Edge(c.id, b.id)])
    tries = []

    def flaky(job):
        tries.append(job.claim.attempt)
        if len(tries) < 3:
            raise OSError("not yet")

    handlers = {"double": lambda job: job.payload["n"] * 2, "flaky": flaky}
    with working(router, handlers, tenants=[tenant]):
        until(lambda: state(router, tenant, c) == "failed")
    assert tries == [1, 2, 3]
    assert router.run(tasks.get(tenant, a.id), tenant=tenant).result == 8
    assert "no handler" in router.run(tasks.get(tenant, c.id), tenant=tenant).error


async def test_the_async_worker_does_the_same(laid_out, router, tenant):
    """Coroutines, by kind, with results."""
    a, b = tasks.NewTask("double", {"n": 4}), tasks.NewTask("bad", retry=tasks.Retry(attempts=1))
    submit(router, tenant, a, b)

    async def double(job):
        await asyncio.sleep(0)
        return job.payload["n"] * 2

    async def bad(_job):
        return object()

    async with AsyncRouter(laid_out.catalog_conninfo()) as arouter:
        async with aworking(arouter, {"double": double, "bad": bad}, tenants=[tenant]):
            await asyncio.to_thread(
                until,
                lambda: {state(router, tenant, a), state(router, tenant, b)} == {"done", "failed"},
            )
    assert router.run(tasks.get(tenant, a.id), tenant=tenant).result == 8
    assert "cannot be stored" in router.run(tasks.get(tenant, b.id), tenant=tenant).error


def test_effects_are_committed_with_the_finish(router, tenant):
    """A handler may return a work: its rows are there exactly when the task is done."""
    task = tasks.NewTask("rename")
    submit(router, tenant, task)

    def work():
        yield Query("UPDATE tenants SET name = 'renamed' WHERE tenant_id = %s", (tenant,))
        return {"renamed": True}

    with working(router, {"rename": lambda _: Effects(work)}, tenants=[tenant]):
        until(lambda: state(router, tenant, task) == "done")
    with router.connection(tenant=tenant) as conn:
        found = conn.execute("SELECT name FROM tenants WHERE tenant_id = %s", (tenant,))
        assert found.fetchone() == ("renamed",)


@pytest.mark.slow
def test_a_long_task_keeps_its_lease(router, tenant):
    """Longer than its lease, renewed by heartbeats, claimed once."""
    task = tasks.NewTask("long")
    submit(router, tenant, task)
    with working(router, {"long": lambda _: time.sleep(1.5)}, tenants=[tenant], lease=0.5):
        until(lambda: state(router, tenant, task) == "done")
    assert router.run(tasks.get(tenant, task.id), tenant=tenant).attempt == 1


def test_a_job_learns_that_its_claim_is_gone(router, tenant):
    """Cancelled from outside: the job sees it, and its result is refused."""
    task = tasks.NewTask("long")
    submit(router, tenant, task)
    started, seen = threading.Event(), threading.Event()

    def long(job):
        started.set()
        until(lambda: job.lost)
        seen.set()
        return "too late"

    with working(router, {"long": long}, tenants=[tenant], lease=0.6):
        assert started.wait(30)
        router.run(tasks.cancel(tenant, [task.id]), tenant=tenant)
        assert seen.wait(30)
    found = router.run(tasks.get(tenant, task.id), tenant=tenant)
    assert (found.state, found.result) == ("cancelled", None)


async def test_an_async_job_is_cancelled_when_its_claim_is_gone(laid_out, router, tenant):
    """The coroutine gets CancelledError at its next await."""
    task = tasks.NewTask("long")
    submit(router, tenant, task)
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def long(_job):
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with AsyncRouter(laid_out.catalog_conninfo()) as arouter:
        async with aworking(arouter, {"long": long}, tenants=[tenant], lease=0.6):
            async with asyncio.timeout(30):
                await started.wait()
                # A sync call would keep the loop from the COMMIT of a renewal, and wait for it.
                await arouter.run(tasks.cancel(tenant, [task.id]), tenant=tenant)
                await cancelled.wait()


def test_what_is_being_finished_makes_room(router, tenant):
    """A finish that waits keeps nobody: the next task runs; but not ever more of them."""
    first, second = tasks.NewTask("first"), tasks.NewTask("second")
    submit(router, tenant, first)
    started, may_end, ran = threading.Event(), threading.Event(), threading.Event()

    def block(_):
        started.set()
        assert may_end.wait(60)

    handlers = {"first": block, "second": lambda _: ran.set()}
    with working(router, handlers, tenants=[tenant], concurrency=1):
        assert started.wait(30)
        submit(router, tenant, second)
        with router.connection(tenant=tenant) as conn:
            conn.execute(LOCK, (tenant, first.id))
            may_end.set()
            assert ran.wait(30)
            assert state(router, tenant, first) == "running"
        until(lambda: state(router, tenant, first) == state(router, tenant, second) == "done")


def test_a_worker_gives_up_on_what_ends_its_workers(router, tenant):
    """It does not run it once more."""
    task = tasks.NewTask("k", retry=tasks.Retry(crashes=0))
    submit(router, tenant, task)
    assert router.run(tasks.claim(tenant, "dead"), tenant=tenant)
    with router.connection(tenant=tenant) as conn:
        conn.execute(EXPIRE, (tenant, task.id))
    ran = []
    with working(router, {"k": ran.append}, tenants=[tenant]):
        until(lambda: state(router, tenant, task) == "failed")
    assert not ran


def test_stopping_lets_running_tasks_end_and_gives_back_the_rest(router, tenant):
    """What ends within the drain is done; what does not is ready again, without an attempt."""
    quick, stuck = tasks.NewTask("quick"), tasks.NewTask("stuck")
    submit(router, tenant, quick, stuck)
    started = threading.Barrier(3)
    release = threading.Event()

    def run_quick(_job):
        started.wait()
        time.sleep(0.2)

    def run_stuck(_job):
        started.wait()
        release.wait()

    handlers = {"quick": run_quick, "stuck": run_stuck}
    with working(router, handlers, tenants=[tenant], drain=1.0) as worker:
        started.wait(30)
        worker.stop()
    found = router.run(tasks.get(tenant, stuck.id), tenant=tenant)
    release.set()
    assert state(router, tenant, quick) == "done"
    assert (found.state, found.attempt, found.owner) == ("ready", 0, None)


def test_what_ends_after_the_drain_is_still_finished(router, tenant, monkeypatch):
    """Where the claim could not be given back: its thread may outlive the worker."""
    task = tasks.NewTask("late")
    submit(router, tenant, task)
    started, release, ended = threading.Event(), threading.Event(), threading.Event()

    def late(_job):
        started.set()
        release.wait()

    worker = Worker(router, {"late": late}, tenants=[tenant], drain=0.0)
    drop = worker._core.drop
    monkeypatch.setattr(worker._core, "release", lambda: (it for it in ()))
    monkeypatch.setattr(worker._core, "drop", lambda job: (drop(job), ended.set()))
    thread = threading.Thread(target=worker.run)
    thread.start()
    assert started.wait(30)
    worker.stop()
    thread.join()
    release.set()
    assert ended.wait(30)
    assert state(router, tenant, task) == "done"


async def test_an_async_worker_gives_back_what_does_not_end(laid_out, router, tenant):
    """After the drain the coroutine is cancelled and the task is ready again."""
    task = tasks.NewTask("stuck")
    submit(router, tenant, task)
    started = asyncio.Event()

    async def stuck(_job):
        started.set()
        await asyncio.Event().wait()

    async with AsyncRouter(laid_out.catalog_conninfo()) as arouter:
        async with aworking(arouter, {"stuck": stuck}, tenants=[tenant], drain=0.1):
            async with asyncio.timeout(30):
                await started.wait()
    found = router.run(tasks.get(tenant, task.id), tenant=tenant)
    assert (found.state, found.attempt) == ("ready", 0)


def test_a_worker_finds_every_tenant_of_every_shard(laid_out, router):
    """Without being told of any: it asks the shards, as a role that sees no payloads."""
    tenants = [make_tenant(laid_out) for _ in range(8)]
    assert len({router.where(tenant=it).shard for it in tenants}) == 2
    made = {it: tasks.NewTask("everywhere") for it in tenants}
    for tenant, task in made.items():
        router.run(tasks.submit(tenant, [task], wake=False), tenant=tenant)
    ran = []
    handlers = {"everywhere": lambda job: ran.append(job.claim.tenant)}
    with working(router, handlers):
        until(lambda: all(state(router, it, task) == "done" for it, task in made.items()))
    assert sorted(ran) == sorted(tenants)


def test_sweeps_name_who_may_be_served(router, tenant, other):
    """Due tasks, leases that ran out, due schedules; not what waits, runs, or is elsewhere."""
    now = tasks.NewTask("k", queue="sweep")
    later = tasks.NewTask("k", queue="sweep", delay=3600)
    submit(router, tenant, now, tasks.NewTask("k", queue="elsewhere"))
    submit(router, other, later)
    plan = schedules.create(other, name="s", task=tasks.NewTask("k"), every=60)
    router.run(plan, tenant=other)

    def due():
        rows = router.sweep(["sweep"]).all()
        return {it for it in rows if it[0] in (tenant, other)}

    assert due() == {(tenant, "sweep"), (other, None)}
    router.run(schedules.fire_due(other), tenant=other)
    router.run(tasks.claim(tenant, "w", queue="sweep"), tenant=tenant)
    assert due() == set()
    with router.connection(tenant=tenant) as conn:
        conn.execute(
            "UPDATE tasks SET lease_until = clock_timestamp() - interval '1 s' "
            "WHERE tenant_id = %s AND state = 'running'",
            (tenant,),
        )
    assert due() == {(tenant, "sweep")}


async def test_both_doors_sweep_alike(laid_out, router, tenant):
    """The same rows, by the same signature."""
    submit(router, tenant, tasks.NewTask("k", queue="doors"))
    async with AsyncRouter(laid_out.catalog_conninfo()) as arouter:
        found = await arouter.sweep(["doors"])
    for rows in (found.all(), router.sweep(["doors"]).all()):
        # Schedules of other tests become due meanwhile.
        assert [it for it in rows if it[1] is not None] == [(tenant, "doors")]
    for name in ("sweep", "run", "scatter"):
        sync, other = (inspect.signature(getattr(it, name)) for it in (type(router), AsyncRouter))
        assert sync == other


def test_a_small_tenant_is_not_starved(laid_out, router, tenant, other):
    """Of 2,000 tasks of one and 10 of another, the ten are done among the first hundred."""
    big = [tasks.NewTask("k", {"of": "big"}) for _ in range(2000)]
    router.run(tasks.submit(tenant, big), tenant=tenant)
    router.run(
        tasks.submit(other, [tasks.NewTask("k", {"of": "small"}) for _ in range(10)]), tenant=other
    )
    order = []
    done = threading.Event()

    def note(job):
        order.append(job.payload["of"])
        if order.count("small") == 10:
            done.set()

    with working(router, {"k": note}, tenants=[tenant, other], concurrency=4):
        assert done.wait(60)
    assert order.index("small") < 50
    assert len(order) < 120


def test_a_backlog_hides_nobody(router, tenant, other):
    """Who comes while a worker is busy, and is not heard of, is found by its looks all the same."""
    big = [tasks.NewTask("k", {"of": "big"}) for _ in range(3000)]
    router.run(tasks.submit(tenant, big), tenant=tenant)
    busy, found = threading.Event(), threading.Event()

    def note(job):
        (busy if job.payload["of"] == "big" else found).set()

    with working(router, {"k": note}, tenants=[tenant, other], concurrency=2):
        assert busy.wait(30)
        submit(router, other, tasks.NewTask("k", {"of": "small"}))
        assert found.wait(30)
        with router.connection(tenant=tenant) as conn:
            query = "SELECT count(*) FROM tasks WHERE tenant_id = %s AND state = 'ready'"
            assert conn.execute(query, (tenant,)).fetchone()[0] > 100


def test_a_worker_stops_loudly_when_its_router_is_closed(laid_out):
    """It neither hangs, nor goes on without looking around."""
    with Router(laid_out.catalog_conninfo()) as own:
        worker = Worker(own, {}, poll=0.05, listen=False)
        raised = []

        def work():
            try:
                worker.run()
            except RouterClosed as error:
                raised.append(error)

        thread = threading.Thread(target=work)
        thread.start()
    thread.join(30)
    assert len(raised) == 1


async def test_an_async_worker_stops_loudly_when_its_router_is_closed(laid_out):
    """As the other colour does."""
    async with AsyncRouter(laid_out.catalog_conninfo()) as own:
        worker = AsyncWorker(own, {}, poll=0.05, listen=False)
        running = asyncio.create_task(worker.run(signals=False))
        await asyncio.sleep(0)
    async with asyncio.timeout(30):
        with pytest.raises(RouterClosed):
            await running


@pytest.mark.slow
def test_a_clock_that_jumps_changes_nothing(router, tenant, monkeypatch):
    """Hours forward and back on the worker's machine, in the middle of a task."""
    task, after = tasks.NewTask("long"), tasks.NewTask("long")
    submit(router, tenant, task, after, edges=[tasks.Edge(after.id, task.id)])
    real = {"time": time.time, "time_ns": time.time_ns}
    lost = []

    def long(job):
        for hours in (3, -5, 0):
            monkeypatch.setattr(time, "time", lambda hours=hours: real["time"]() + hours * 3600)
            shift = hours * 3600 * 10**9
            monkeypatch.setattr(time, "time_ns", lambda shift=shift: real["time_ns"]() + shift)
            time.sleep(0.3)
            lost.append(job.lost)

    with working(router, {"long": long}, tenants=[tenant], lease=0.6):
        until(lambda: state(router, tenant, after) == "done")
    assert lost == [False] * 6
    found = [router.run(tasks.get(tenant, it.id), tenant=tenant) for it in (task, after)]
    assert [(it.attempt, it.crashes) for it in found] == [(1, 0)] * 2


def test_a_schedule_runs_by_workers_alone(router, tenant):
    """Whoever works also fires what is due."""
    plan = schedules.create(
        tenant, name="tick", task=tasks.NewTask("tick"), every=60, starts=datetime.now(UTC)
    )
    router.run(plan, tenant=tenant)
    ticked = threading.Event()
    with working(router, {"tick": lambda _: ticked.set()}, tenants=[tenant]):
        assert ticked.wait(30)


@pytest.mark.parametrize(
    "wrong",
    [
        {"queues": "default"},
        {"queues": []},
        {"queues": ["*"]},
        {"tenants": ["acme"]},
        {"concurrency": 0},
        {"lease": 0},
        {"lease": -1},
        {"poll": -1},
        {"poll": 0},
        {"drain": float("nan")},
        {"name": ""},
    ],
)
def test_an_impossible_worker_is_refused(router, wrong):
    """When it is made."""
    for kind in (Worker, AsyncWorker):
        with pytest.raises(InvalidInput):
            kind(router, {}, **wrong)
