"""Claims on real servers: one owner at a time, by the database's clock, whoever dies."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from tenantry import InvalidInput, LeaseLost, StaleActor, actors, agents, tasks


@pytest.fixture
def run(router, tenant):
    """Run a factory for the test's tenant."""
    return lambda factory: router.run(factory, tenant=tenant)


@pytest.fixture
def submit(run, tenant):
    return lambda count, **options: run(
        tasks.submit(tenant, [tasks.NewTask("k", {"n": it}, **options) for it in range(count)])
    )


def expire(router, tenant):
    """Let every lease of a tenant end now, as the database's clock would."""
    with router.connection(tenant=tenant) as conn:
        conn.execute(
            "UPDATE tasks SET lease_until = clock_timestamp() - interval '1 ms' "
            "WHERE tenant_id = %s AND state = 'running'",
            (tenant,),
        )


def test_a_lease_that_ran_out_is_taken_by_whoever_claims_next(router, run, tenant, submit):
    """With a higher fence; everything that the former owner says is refused."""
    submit(1)
    (old,) = run(tasks.claim(tenant, "first"))
    assert run(tasks.claim(tenant, "second")) == []
    expire(router, tenant)
    (new,) = run(tasks.claim(tenant, "second"))
    assert (new.id, new.fence, new.crashes) == (old.id, old.fence + 1, 1)
    for late in (tasks.finish(old, 1), tasks.fail(old, "x"), tasks.progress(old, 1)):
        with pytest.raises(LeaseLost, match=f"'first' with fence {old.fence}"):
            run(late)
    assert run(tasks.renew([old])) == {old.id} == run(tasks.release([old]))
    assert run(tasks.finish_many([(old, 1)])) == {old.id}
    run(tasks.finish(new, {"by": "second"}))
    assert run(tasks.get(tenant, new.id)).result == {"by": "second"}


def test_of_two_claims_of_one_task_the_newest_counts(router, run, tenant, submit):
    """A worker may say something of both when it claimed again what it had lost."""
    submit(2)
    old = run(tasks.claim(tenant, "w", most=2))
    expire(router, tenant)
    new = run(tasks.claim(tenant, "w", most=2))
    assert run(tasks.renew([*old, *new])) == set()
    done = [(it, {"fence": it.fence}) for it in (old[0], new[0], new[1], old[1])]
    assert run(tasks.finish_many(done)) == set()
    assert {run(tasks.get(tenant, it.id)).result["fence"] for it in new} == {new[0].fence}


def test_a_forged_claim_is_refused(run, tenant, submit):
    """Another owner's name, another fence, another task: each changes no row."""
    from dataclasses import replace

    submit(1)
    (claim,) = run(tasks.claim(tenant, "w"))
    for forged in (
        replace(claim, owner="x"),
        replace(claim, fence=claim.fence + 1),
        replace(claim, fence=claim.fence - 1),
        replace(claim, id=uuid4()),
    ):
        with pytest.raises(LeaseLost):
            run(tasks.finish(forged))
    run(tasks.finish(claim))
    with pytest.raises(LeaseLost):
        run(tasks.finish(claim))


def test_a_lease_that_ran_out_is_still_its_owners_until_it_is_taken(router, run, tenant, submit):
    """No second owner exists, so finishing is right, and so is renewing."""
    submit(2)
    one, two = run(tasks.claim(tenant, "w", most=2))
    expire(router, tenant)
    run(tasks.finish(one))
    assert run(tasks.renew([two])) == set()
    assert run(tasks.claim(tenant, "x", most=5)) == []


def test_many_claims_are_renewed_in_one_statement(router, run, tenant, submit):
    """All that are held; the lost ones are named."""
    submit(20)
    claims = run(tasks.claim(tenant, "w", most=20, lease=5))
    expire(router, tenant)
    taken = run(tasks.claim(tenant, "x", most=3, lease=60))
    assert run(tasks.renew(claims, lease=600)) == {it.id for it in taken}
    until = run(tasks.get(tenant, (({it.id for it in claims} - {it.id for it in taken}).pop())))
    assert until.lease_until > datetime.now(UTC) + timedelta(minutes=9)
    with pytest.raises(InvalidInput, match="one tenant and one owner"):
        tasks.renew([claims[0], taken[0]])
    with pytest.raises(InvalidInput, match="not of 0"):
        tasks.renew([])


def test_a_task_that_kills_its_workers_is_given_up(router, run, tenant, submit):
    """After its bound of lost leases, by whoever claims next; failures are counted apart."""
    submit(1, retry=tasks.Retry(crashes=2, attempts=2, then="dead"))
    for crashes in range(3):
        (claim,) = run(tasks.claim(tenant, f"w{crashes}"))
        assert claim.crashes == crashes
        expire(router, tenant)
    assert run(tasks.claim(tenant, "last")) == []
    found = run(tasks.get(tenant, claim.id))
    assert found.state == "dead"
    assert "3 leases ran out" in found.error


def test_a_lease_that_ran_out_gave_up_its_place_within_a_limit(router, run, tenant, submit):
    """Somebody else took the place, so it cannot be renewed; it may still be finished."""
    submit(1, queue="a")
    submit(2, queue="b")
    run(tasks.limit(tenant, 1))
    (late,) = run(tasks.claim(tenant, "w", queue="a"))
    assert run(tasks.claim(tenant, "x", queue="b")) == []
    expire(router, tenant)
    (_,) = run(tasks.claim(tenant, "x", queue="b", most=2))
    assert run(tasks.renew([late])) == {late.id}
    assert run(tasks.claim(tenant, "y", queue="a")) == []
    run(tasks.finish(late, {"all": "the same"}))


def test_limits_hold_whoever_claims(router, run, tenant):
    """Eight workers on two queues, a limit on one and on both: counted in history, at any time."""
    queues = {"a": 2, "*": 3}
    graph = [tasks.NewTask("k", queue=it) for it in "ab" for _ in range(40)]
    run(tasks.submit(tenant, graph))
    for queue, most in queues.items():
        run(tasks.limit(tenant, most, queue=queue))
    left = threading.Semaphore(len(graph))
    finished = Counter()

    def work(name, queue):
        while left._value:
            for claim in run(tasks.claim(tenant, name, queue=queue, most=2)):
                run(tasks.finish(claim))
                finished[claim.id] += 1
                left.acquire()

    threads = [threading.Thread(target=work, args=(f"w{it}", "ab"[it % 2])) for it in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(finished.values()) == {1}
    with router.connection(tenant=tenant) as conn:
        rows = conn.execute(
            "SELECT queue, to_state = 'running' FROM transitions JOIN tasks USING (tenant_id) "
            "WHERE tenant_id = %s AND tasks.id = task_id AND 'running' IN (from_state, to_state) "
            "ORDER BY at, to_state = 'running'",
            (tenant,),
        ).fetchall()
    running, most = Counter(), Counter()
    for queue, begins in rows:
        running.update({queue: 1 if begins else -1, "*": 1 if begins else -1})
        most |= running
    assert (most["a"], most["*"]) == (2, 3)


def test_giving_back_counts_no_attempt(run, tenant, submit):
    """A worker that drains leaves no trace but in history."""
    submit(3)
    claims = run(tasks.claim(tenant, "w", most=3))
    assert run(tasks.release(claims)) == set()
    again = run(tasks.claim(tenant, "x", most=3))
    assert [(it.attempt, it.crashes) for it in again] == [(1, 0)] * 3


def test_the_workers_clock_decides_nothing(run, tenant, submit, monkeypatch):
    """A worker's machine that is hours wrong neither shortens nor stretches a lease."""
    submit(1)
    import time

    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + 7200 * 10**9)
    (claim,) = run(tasks.claim(tenant, "w", lease=30))
    assert run(tasks.claim(tenant, "x")) == []
    assert claim.lease_until < datetime.now(UTC) + timedelta(seconds=31)
    run(tasks.finish(claim))


@pytest.mark.parametrize(
    "wrong",
    [
        {"owner": ""},
        {"owner": 3},
        {"queue": "*"},
        {"most": 0},
        {"most": 1001},
        {"most": -1},
        {"lease": 0},
        {"lease": -5},
        {"lease": float("nan")},
        {"lease": timedelta(days=400)},
        {"tenant": "acme"},
    ],
)
def test_an_impossible_claim_is_refused(tenant, wrong):
    """Before anything is sent."""
    given = {"tenant": tenant, "owner": "w", **wrong}
    with pytest.raises(InvalidInput, match=f"{next(iter(wrong))}="):
        tasks.claim(given.pop("tenant"), given.pop("owner"), **given)


def test_effects_belong_to_the_claim(router, run, tenant, submit):
    """A service's own statements commit with the finish, or roll back with it."""
    from tenantry import Query

    submit(1)
    (claim,) = run(tasks.claim(tenant, "w"))

    def effect(finish):
        yield Query("UPDATE tenants SET name = 'changed' WHERE tenant_id = %s", (tenant,))
        yield from finish()

    expire(router, tenant)
    (new,) = run(tasks.claim(tenant, "x"))
    with pytest.raises(LeaseLost):
        run(lambda: effect(tasks.finish(claim)))
    with router.connection(tenant=tenant) as conn:
        query = "SELECT name FROM tenants WHERE tenant_id = %s"
        assert conn.execute(query, (tenant,)).fetchone() != ("changed",)
    run(lambda: effect(tasks.finish(new)))
    with router.connection(tenant=tenant) as conn:
        assert conn.execute(query, (tenant,)).fetchone() == ("changed",)


def test_finishing_and_claiming_are_one_transaction(router, run, tenant):
    """What the finish frees may be claimed by it, within limits; what was lost is named."""
    first, second, third = (tasks.NewTask("k") for _ in range(3))
    edges = [tasks.Edge(second.id, first.id), tasks.Edge(third.id, second.id)]
    run(tasks.submit(tenant, [first, second, third], edges))
    run(tasks.limit(tenant, 1))
    claims = run(tasks.claim(tenant, "w"))
    for following in (second, third):
        lost, claims = run(tasks.exchange([(claims[0], {"n": 1})], "w", most=5))
        assert (lost, [it.id for it in claims]) == (set(), [following.id])
    run(tasks.cancel(tenant, [third.id]))
    assert run(tasks.exchange([(claims[0], None)], "w")) == ({third.id}, [])
    assert run(tasks.get(tenant, second.id)).result == {"n": 1}


def test_only_the_owner_exchanges_claims(run, tenant, submit):
    """Another name is refused at once; an older incarnation finishes nothing by it."""
    submit(2)
    (claim,) = run(tasks.claim(tenant, "w"))
    with pytest.raises(InvalidInput, match="only their owner"):
        tasks.exchange([(claim, None)], "x")
    with pytest.raises(InvalidInput, match="not of 0"):
        tasks.exchange([], "w")
    agent = run(agents.register(tenant, name="a"))
    actor = run(actors.register(tenant, kind="k", agent=agent.id))
    old = run(actors.activate(tenant, actor.id)).actor
    (held,) = run(tasks.claim(tenant, old))
    (taken,) = run(actors.activate(tenant, actor.id)).claims
    with pytest.raises(StaleActor):
        run(tasks.exchange([(held, None)], old))
    found = run(tasks.get(tenant, held.id))
    assert (found.state, found.fence) == ("running", taken.fence)


def test_workers_at_once_never_share_a_task(router, run, tenant):
    """Eight of them on one queue of a graph: each task once, each edge respected."""
    roots = [tasks.NewTask("root") for _ in range(40)]
    leaves = [tasks.NewTask("leaf") for _ in range(40)]
    edges = [tasks.Edge(leaf.id, root.id) for leaf in leaves for root in roots[:5]]
    run(tasks.submit(tenant, roots + leaves, edges))
    done = []

    def work(name):
        idle = 0
        while idle < 20:
            claims = run(tasks.claim(tenant, name, most=3))
            idle = 0 if claims else idle + 1
            if claims:
                assert run(tasks.finish_many([(it, None) for it in claims])) == set()
                done.extend((it.id, it.kind) for it in claims)

    threads = [threading.Thread(target=work, args=(f"w{it}",)) for it in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(done) == Counter((it.id, it.kind) for it in roots + leaves)
    blocking = {it.id for it in roots[:5]}
    order = [task for task, _ in done]
    last_root = max(order.index(it) for it in blocking)
    with router.connection(tenant=tenant) as conn:
        early = conn.execute(
            "SELECT count(*) FROM transitions AS leaf WHERE tenant_id = %s AND to_state = 'ready' "
            "AND from_state = 'waiting' AND at < (SELECT max(at) FROM transitions WHERE "
            "tenant_id = leaf.tenant_id AND task_id = ANY (%s) AND to_state = 'done')",
            (tenant, list(blocking)),
        ).fetchone()
    assert early == (0,)
    assert last_root >= 4
