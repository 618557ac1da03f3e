"""Task graphs on real servers: submission, dependents, failure policies, keys, limits."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import uuid4

import psycopg
import pytest

from tenantry import (
    InvalidInput,
    KeysConflict,
    LeaseLost,
    UnknownActor,
    UnknownAgent,
    UnknownTask,
    actors,
    history,
    schedules,
    tasks,
)
from tenantry.errors import AlreadyExists
from tenantry_schema.states import TRANSITIONS


@pytest.fixture
def run(router, tenant):
    """Run a factory for the test's tenant."""
    return lambda factory: router.run(factory, tenant=tenant)


def states(router, tenant):
    with router.connection(tenant=tenant) as conn:
        rows = conn.execute("SELECT kind, state FROM tasks WHERE tenant_id = %s", (tenant,))
        return dict(rows.fetchall())


def history_of(run, tenant, task):
    now = datetime.now(UTC)
    day = timedelta(days=1)
    return run(history.of_task(tenant, task, since=now - day, until=now + day))


def diamond(on_failure="fail", **options):
    a, b, c, d = (tasks.NewTask(it, **options) for it in "abcd")
    edges = [
        tasks.Edge(b.id, a.id, on_failure),
        tasks.Edge(c.id, a.id, "fail"),
        tasks.Edge(d.id, b.id, "fail"),
        tasks.Edge(d.id, c.id, "fail"),
    ]
    return [a, b, c, d], edges


def test_a_graph_runs_in_the_order_of_its_needs(router, run, tenant):
    """What needs a task becomes ready by its finish, in the same transaction."""
    graph, edges = diamond()
    assert run(tasks.submit(tenant, graph, edges)).created
    order = []
    while claims := run(tasks.claim(tenant, "w", most=10)):
        order.append({it.kind for it in claims})
        assert run(tasks.finish_many([(it, {"did": it.kind}) for it in claims])) == set()
    assert order == [{"a"}, {"b", "c"}, {"d"}]
    assert run(tasks.get(tenant, graph[3].id)).result == {"did": "d"}
    told = history_of(run, tenant, graph[3].id)
    assert [(it.from_state, it.to_state) for it in told] == [
        ("new", "waiting"),
        ("waiting", "ready"),
        ("ready", "running"),
        ("running", "done"),
    ]
    assert [it.step for it in told] == [1, 2, 3, 4]
    assert all(first.at <= second.at for first, second in pairwise(told))


def test_a_submission_may_be_repeated(run, tenant):
    """The same objects are the same tasks; a key that is taken gives the first ones."""
    graph, edges = diamond()
    factory = tasks.submit(tenant, graph, edges)
    run(factory)
    run(factory)
    assert len(run(tasks.claim(tenant, "w", most=10))) == 1
    first = run(tasks.submit(tenant, [tasks.NewTask("k", key="order-7")]))
    again = run(tasks.submit(tenant, [tasks.NewTask("other", key="order-7")]))
    assert (first.created, again.created) == (True, False)
    assert first.ids == again.ids


def test_a_graph_holds_no_task_of_another_one(run, tenant):
    """A task that was submitted may be done by now: nothing could wait for it any more."""
    old, new = tasks.NewTask("old"), tasks.NewTask("new")
    run(tasks.submit(tenant, [old]))
    with pytest.raises(AlreadyExists, match="1 of the graph's tasks were submitted before"):
        run(tasks.submit(tenant, [old, new], [tasks.Edge(new.id, old.id)]))
    with pytest.raises(UnknownTask):
        run(tasks.get(tenant, new.id))


def test_keys_of_a_graph_are_all_new_or_all_taken(router, run, tenant, other):
    """A repetition stores nothing of the graph; a mixture is refused; tenants do not share keys."""
    made = [tasks.NewTask("root", key="g"), tasks.NewTask("leaf")]
    first = run(tasks.submit(tenant, made, [tasks.Edge(made[1].id, made[0].id)]))
    fresh = [tasks.NewTask("root", key="g"), tasks.NewTask("leaf")]
    again = run(tasks.submit(tenant, fresh, [tasks.Edge(fresh[1].id, fresh[0].id)]))
    assert again == tasks.Submitted(first.ids[:1], created=False)
    with pytest.raises(KeysConflict, match="'g' is taken"):
        run(tasks.submit(tenant, [tasks.NewTask("x", key="g"), tasks.NewTask("x", key="h")]))
    with router.connection(tenant=tenant) as conn:
        count = conn.execute("SELECT count(*) FROM tasks WHERE tenant_id = %s", (tenant,))
        assert count.fetchone() == (2,)
    elsewhere = router.run(tasks.submit(other, [tasks.NewTask("k", key="g")]), tenant=other)
    assert elsewhere.created


@pytest.mark.parametrize(
    ("policy", "after"),
    [
        ("fail", {"a": "failed", "b": "failed", "c": "failed", "d": "failed"}),
        ("skip", {"a": "failed", "b": "skipped", "c": "failed", "d": "failed"}),
        ("ignore", {"a": "failed", "b": "ready", "c": "failed", "d": "failed"}),
    ],
)
def test_a_failure_does_what_each_edge_says(router, run, tenant, policy, after):
    """Transitively, by the strongest path, with a line of history for each."""
    graph, edges = diamond(policy, retry=tasks.Retry(attempts=1))
    run(tasks.submit(tenant, graph, edges))
    (claim,) = run(tasks.claim(tenant, "w"))
    assert run(tasks.fail(claim, "no such page")) == "failed"
    assert states(router, tenant) == after
    assert "no such page" in run(tasks.get(tenant, claim.id)).error
    for task in graph:
        assert history_of(run, tenant, task.id)[-1].to_state == after[task.kind]


def test_skipping_goes_on_and_ignoring_stops_it(router, run, tenant):
    """A chain a <- b (skip) <- c (fail) <- d (ignore)."""
    a, b, c, d = (tasks.NewTask(it, retry=tasks.Retry(attempts=1)) for it in "abcd")
    edges = [
        tasks.Edge(b.id, a.id, "skip"),
        tasks.Edge(c.id, b.id, "fail"),
        tasks.Edge(d.id, c.id, "ignore"),
    ]
    run(tasks.submit(tenant, [a, b, c, d], edges))
    run(tasks.fail(run(tasks.claim(tenant, "w"))[0], "x"))
    assert states(router, tenant) == {"a": "failed", "b": "skipped", "c": "skipped", "d": "ready"}


def test_an_attempt_that_failed_is_tried_again_later(router, run, tenant):
    """Ready with a back-off by the database's clock, and given up after the last attempt."""
    retry = tasks.Retry(attempts=2, backoff=3600, most=7200)
    run(tasks.submit(tenant, [tasks.NewTask("a", retry=retry)]))
    (claim,) = run(tasks.claim(tenant, "w"))
    assert run(tasks.fail(claim, "once")) == "ready"
    assert run(tasks.claim(tenant, "w")) == []
    waits = run(tasks.get(tenant, claim.id)).run_after - datetime.now(UTC)
    assert timedelta(minutes=29) < waits < timedelta(minutes=61)
    hurry(router, tenant)
    (again,) = run(tasks.claim(tenant, "w"))
    assert (again.attempt, again.fence) == (2, claim.fence + 1)
    assert run(tasks.fail(again, "twice")) == "failed"


def hurry(router, tenant):
    with router.connection(tenant=tenant) as conn:
        conn.execute(
            "UPDATE tasks SET run_after = now() - interval '1 s' WHERE tenant_id = %s", (tenant,)
        )


def test_a_dead_letter_waits_for_a_person_and_so_do_its_dependents(router, run, tenant):
    """It is requeued with all its attempts, or cancelled with what needs it."""
    graph, edges = diamond(retry=tasks.Retry(attempts=1, then="dead"))
    run(tasks.submit(tenant, graph, edges))
    assert run(tasks.fail(run(tasks.claim(tenant, "w"))[0], "x")) == "dead"
    assert states(router, tenant) == {"a": "dead", "b": "waiting", "c": "waiting", "d": "waiting"}
    assert run(tasks.requeue(tenant, [it.id for it in graph])) == (graph[0].id,)
    (claim,) = run(tasks.claim(tenant, "w"))
    assert claim.attempt == 1
    assert run(tasks.fail(claim, "x", retry=False)) == "dead"
    assert set(run(tasks.cancel(tenant, [graph[0].id]))) == {it.id for it in graph}
    assert set(states(router, tenant).values()) == {"cancelled"}


def test_a_subtree_is_cancelled_and_its_runner_learns_of_it(router, run, tenant):
    """Siblings and ended tasks stay; the owner of a cancelled task loses its lease."""
    graph, edges = diamond()
    a, b, c, d = graph
    run(tasks.submit(tenant, graph, edges))
    run(tasks.finish(run(tasks.claim(tenant, "w"))[0]))
    held = {it.kind: it for it in run(tasks.claim(tenant, "w", most=5))}
    assert set(run(tasks.cancel(tenant, [b.id, a.id], reason="changed my mind"))) == {b.id, d.id}
    assert states(router, tenant) == {
        "a": "done",
        "b": "cancelled",
        "c": "running",
        "d": "cancelled",
    }
    with pytest.raises(LeaseLost, match="cancelled"):
        run(tasks.finish(held["b"]))
    run(tasks.finish(held["c"]))
    assert run(tasks.cancel(tenant, [c.id, uuid4()])) == ()
    with pytest.raises(UnknownTask):
        run(tasks.get(tenant, uuid4()))


def test_priorities_and_times_decide_who_is_first(run, tenant):
    """Higher first, then older; what is not due is not claimed, and holds nobody up."""
    later = datetime.now(UTC) + timedelta(hours=1)
    run(tasks.submit(tenant, [tasks.NewTask("future", priority=9, run_after=later)] * 1))
    run(tasks.submit(tenant, [tasks.NewTask("delayed", priority=9, delay=3600)]))
    for kind, priority in [("low", 0), ("high", 9), ("middle", 5), ("low2", 0)]:
        run(tasks.submit(tenant, [tasks.NewTask(kind, priority=priority)]))
    first = run(tasks.claim(tenant, "w", most=2))
    rest = run(tasks.claim(tenant, "w", most=10))
    assert [it.kind for it in first + rest] == ["high", "middle", "low", "low2"]


def test_a_deadline_ends_a_task_that_comes_too_late(router, run, tenant):
    """It is not started, what needs it fails, and a running one cannot be renewed beyond it."""
    past = datetime.now(UTC) - timedelta(seconds=1)
    soon = datetime.now(UTC) + timedelta(seconds=30)
    late, waits, running = (
        tasks.NewTask("late", deadline=past),
        tasks.NewTask("waits"),
        tasks.NewTask("running", deadline=soon),
    )
    run(tasks.submit(tenant, [late, waits, running], [tasks.Edge(waits.id, late.id)]))
    (claim,) = run(tasks.claim(tenant, "w", most=5, lease=3600))
    assert (claim.kind, claim.lease_until) == ("running", soon)
    found = states(router, tenant)
    assert found == {"late": "failed", "waits": "failed", "running": "running"}
    assert run(tasks.renew([claim], lease=3600)) == set()
    assert run(tasks.get(tenant, running.id)).lease_until == soon


def test_limits_hold_for_queues_and_for_the_tenant(run, tenant):
    """Whichever is tighter; 0 pauses; taken away, everything flows."""
    run(tasks.submit(tenant, [tasks.NewTask("k", queue=q) for q in ("a", "b") for _ in range(5)]))
    run(tasks.limit(tenant, 2, queue="a"))
    run(tasks.limit(tenant, 3))
    in_a = run(tasks.claim(tenant, "w", queue="a", most=5))
    in_b = run(tasks.claim(tenant, "w", queue="b", most=5))
    assert (len(in_a), len(in_b)) == (2, 1)
    assert run(tasks.claim(tenant, "w", queue="b")) == []
    run(tasks.finish(in_a[0]))
    assert len(run(tasks.claim(tenant, "w", queue="b", most=5))) == 1
    run(tasks.limit(tenant, 0, queue="b"))
    run(tasks.limit(tenant, None))
    assert run(tasks.claim(tenant, "w", queue="b")) == []
    run(tasks.limit(tenant, None, queue="b"))
    assert len(run(tasks.claim(tenant, "w", queue="b", most=5))) == 3
    with pytest.raises(InvalidInput, match="most="):
        tasks.limit(tenant, -1)


EVERY_STATE = sorted({it for pair in TRANSITIONS for it in pair} - {"new"} | {"unheard-of"})


@pytest.mark.parametrize("after", EVERY_STATE)
def test_postgres_refuses_transitions_that_are_not_drawn(router, run, tenant, after):
    """From every state, with and without a lie about what it was."""
    claimed, ready, waits = (tasks.NewTask(it) for it in ("claimed", "ready", "waits"))
    run(tasks.submit(tenant, [claimed]))
    run(tasks.claim(tenant, "w"))
    run(tasks.submit(tenant, [ready, waits], [tasks.Edge(waits.id, ready.id)]))
    lease = {"running": ", owner = 'w', lease_until = now()"}
    for task, state in ((claimed, "running"), (ready, "ready"), (waits, "waiting")):
        for how in (", change = state || '>' || %(after)s", ""):
            drawn = (state, after) in TRANSITIONS and (state, after) != ("waiting", "ready")
            if (how and drawn) or (not how and state == after):
                continue
            free = lease.get(after, ", owner = NULL, lease_until = NULL")
            with (
                pytest.raises(psycopg.errors.CheckViolation),
                router.connection(tenant=tenant) as conn,
            ):
                conn.execute(
                    f"UPDATE tasks SET state = %(after)s{how}{free} "
                    "WHERE tenant_id = %(tenant)s AND id = %(task)s",
                    {"after": after, "tenant": tenant, "task": task.id},
                )


def test_postgres_refuses_what_the_door_would(router, tenant):
    """Unknown states, negative priorities, owners without leases, documents beyond bounds."""
    for columns, values in [
        ("state", "'asleep'"),
        ("state, change", "'done', 'new>done'"),
        ("state, change", "'ready', 'new>waiting'"),
        ("state, change, owner, lease_until", "'running', 'new>running', 'w', now()"),
        ("priority", "-1"),
        ("priority", "10"),
        ("queue", "'*'"),
        ("unmet", "1"),
        ("owner", "'w'"),
        ("max_attempts", "0"),
        ("exhausted", "'shrug'"),
        ("backoff_ms", "0"),
        ("payload", "jsonb_build_object('x', repeat(md5(random()::text), 200000))"),
    ]:
        with (
            pytest.raises(psycopg.errors.CheckViolation),
            router.connection(tenant=tenant) as conn,
        ):
            conn.execute(
                f"INSERT INTO tasks (tenant_id, id, kind, {columns}) "
                f"VALUES (%s, gen_random_uuid(), 'k', {values})",
                (tenant,),
            )


def test_who_is_not_there_is_named(run, tenant):
    """Postgres refuses tasks, actors and schedules of agents and actors that nobody registered."""
    nobody = uuid4()
    with pytest.raises(UnknownAgent, match="register the agent"):
        run(tasks.submit(tenant, [tasks.NewTask("k", agent=nobody)]))
    with pytest.raises(UnknownActor, match="register the actor"):
        run(tasks.submit(tenant, [tasks.NewTask("k", actor=nobody)]))
    with pytest.raises(UnknownAgent):
        run(actors.register(tenant, kind="k", agent=nobody))
    with pytest.raises(UnknownAgent):
        task = tasks.NewTask("k", agent=nobody)
        run(schedules.create(tenant, name="s", task=task, every=60))


@pytest.mark.parametrize("by", ["submit", "progress", "finish", "schedule"])
def test_a_document_beyond_the_stated_limit_is_refused(run, tenant, by):
    """256 KiB of JSON, by name, before anything is sent; a byte less is stored."""
    largest = "x" * (256 * 1024 - len('{"":""}'))
    kept, beyond = {"": largest}, {"": largest + "x"}
    run(tasks.submit(tenant, [tasks.NewTask("k", kept)]))
    (claim,) = run(tasks.claim(tenant, "w"))
    assert claim.payload == kept
    with pytest.raises(InvalidInput, match="262,145 bytes of JSON, of at most 262,144"):
        {
            "submit": lambda: tasks.submit(tenant, [tasks.NewTask("k", beyond)]),
            "progress": lambda: tasks.progress(claim, beyond),
            "finish": lambda: tasks.finish(claim, beyond),
            "schedule": lambda: schedules.create(
                tenant, name="s", task=tasks.NewTask("k", beyond), every=60
            ),
        }[by]()


def test_history_is_read_by_ranges_of_time(run, tenant):
    """Page by page, each line once; logs, too; nothing outside the range."""
    start = datetime.now(UTC) - timedelta(minutes=1)
    run(tasks.submit(tenant, [tasks.NewTask("k") for _ in range(25)]))
    run(tasks.claim(tenant, "w", most=25))
    end = datetime.now(UTC) + timedelta(minutes=1)
    found, after = [], None
    while page := run(history.transitions(tenant, since=start, until=end, after=after, limit=7)):
        found += page
        after = page[-1]
    assert len(found) == len(set(found)) == 50
    assert Counter(it.to_state for it in found) == {"ready": 25, "running": 25}
    assert run(history.transitions(tenant, since=end, until=end + timedelta(days=1))) == []
    task = found[0].task
    lines = [history.NewLog(f"line {it}", task=task, fields={"n": it}) for it in range(5)]
    run(history.log(tenant, [*lines, history.NewLog("of nobody", level="warning")]))
    logs = run(history.logs(tenant, since=start, until=end, limit=2))
    logs += run(history.logs(tenant, since=start, until=end, after=logs[-1]))
    assert [it.message for it in logs if it.task == task] == [it.message for it in lines]
    assert len(run(history.logs(tenant, since=start, until=end, task=task))) == 5
    for wrong in ({"level": "loud"}, {"message": ""}, {"fields": []}):
        with pytest.raises(InvalidInput):
            history.log(tenant, [history.NewLog(**{"message": "m", **wrong})])
    with pytest.raises(InvalidInput, match="time zone"):
        history.logs(tenant, since=datetime(2026, 1, 1), until=end)  # noqa: DTZ001


@pytest.mark.slow
def test_a_hundred_thousand_tasks_are_one_call(router, tenant):
    """With as many edges, in one transaction; and cancelled by one call, too."""
    graph = [tasks.NewTask("k") for _ in range(100_000)]
    edges = [tasks.Edge(one.id, two.id) for two, one in pairwise(graph)]
    router.run(tasks.submit(tenant, graph, edges), tenant=tenant, deadline=120)
    with router.connection(tenant=tenant) as conn:
        counted = conn.execute(
            "SELECT count(*), count(*) FILTER (WHERE state = 'ready') FROM tasks "
            "WHERE tenant_id = %s",
            (tenant,),
        ).fetchone()
    assert counted == (100_000, 1)
    cancelled = router.run(tasks.cancel(tenant, [graph[0].id]), tenant=tenant, deadline=120)
    assert len(cancelled) == 100_000
