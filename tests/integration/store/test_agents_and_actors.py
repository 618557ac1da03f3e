"""Agents and actors on real servers: optimistic versions, fencing, recovery in one round trip."""

from __future__ import annotations

import math
import threading
from uuid import uuid4

import pytest

from tenantry import (
    InvalidInput,
    InvalidKey,
    LeaseLost,
    StaleActor,
    UnknownActor,
    UnknownAgent,
    UnknownTenant,
    VersionChanged,
    actors,
    agents,
    mint_agent_id,
    tasks,
)
from tenantry.errors import AlreadyExists


@pytest.fixture
def run(router, tenant):
    """Run a factory for the test's tenant."""
    return lambda factory: router.run(factory, tenant=tenant)


@pytest.fixture
def agent(run, tenant):
    return run(agents.register(tenant, name="scout"))


@pytest.fixture
def actor(run, tenant, agent):
    return run(actors.register(tenant, kind="planner", agent=agent.id, state={"at": 0}))


def test_an_agent_is_registered_once_and_routes_by_its_id(router, run, tenant):
    """Registering again gives the stored one; another name under the id is a conflict."""
    register = agents.register(tenant, name="scout", metadata={"model": "m"})
    agent = run(register)
    assert run(register) == agent
    assert (agent.version, agent.metadata, agent.retired_at) == (0, {"model": "m"}, None)
    assert router.run(agents.get(tenant, agent.id), agent=agent.id) == agent
    with pytest.raises(AlreadyExists, match="scout"):
        run(agents.register(tenant, name="other", id=agent.id))


def test_an_agent_changes_by_its_version(run, tenant, agent):
    """Two changes made on one version: the second one is refused."""
    changed = run(agents.update(agent, metadata={"a": [1]}))
    assert (changed.version, changed.name, changed.metadata) == (1, "scout", {"a": [1]})
    with pytest.raises(VersionChanged, match="has version 1"):
        run(agents.update(agent, name="late"))
    retired = run(agents.retire(tenant, agent.id))
    assert run(agents.retire(tenant, agent.id)).retired_at == retired.retired_at
    with pytest.raises(VersionChanged, match="is retired"):
        run(agents.update(changed, name="gone"))
    with pytest.raises(UnknownAgent):
        run(agents.retire(tenant, uuid4()))


def test_agents_are_listed_page_by_page(run, tenant):
    """Every one once, in the order of ids, whoever is registered meanwhile."""
    made = [run(agents.register(tenant, name=f"a{it}")).id for it in range(7)]
    run(agents.retire(tenant, made[3]))
    found, after = [], None
    while page := run(agents.page(tenant, after=after, limit=3, retired=True)):
        found += [it.id for it in page]
        after = found[-1]
    assert found == sorted(made)
    assert made[3] not in [it.id for it in run(agents.page(tenant))]


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "x\0"},
        {"name": "x", "metadata": {"n": math.inf}},
        {"name": "x", "metadata": "{}"},
        {"name": "x", "id": "1"},
        {"name": "x", "kind": None},
    ],
)
def test_an_agent_that_cannot_be_stored_is_refused(tenant, wrong):
    """Before anything is sent."""
    with pytest.raises(InvalidInput):
        agents.register(tenant, **wrong)


def test_an_agent_id_of_another_tenant_is_refused(tenant, other):
    """Its calls would be routed to the other one's bucket."""
    with pytest.raises(InvalidKey, match="another tenant"):
        agents.register(tenant, name="x", id=mint_agent_id(other))


def test_a_tenant_that_is_not_there_is_named(router):
    """Postgres refuses the row, the error says why."""
    nobody = uuid4()
    with pytest.raises(UnknownTenant):
        router.run(agents.register(nobody, name="x"), tenant=nobody)


def test_an_actors_state_is_saved_by_its_version(run, tenant, actor, agent):
    """Of two saves on one version one is refused, and nothing of it is kept."""
    assert run(actors.register(tenant, kind="planner", agent=agent.id, id=actor.id)) == actor
    with pytest.raises(AlreadyExists):
        run(actors.register(tenant, kind="other", agent=agent.id, id=actor.id))
    saved = run(actors.save(actor, {"at": 1}))
    assert (saved.version, saved.state) == (1, {"at": 1})
    with pytest.raises(VersionChanged, match="has version 1"):
        run(actors.save(actor, {"at": 9}))
    assert run(actors.get(tenant, actor.id)) == saved
    with pytest.raises(UnknownActor):
        run(actors.get(tenant, uuid4()))
    with pytest.raises(InvalidInput, match="1,048,576"):
        actors.save(saved, {"x": "y" * 1_048_576})


def test_an_older_incarnation_can_do_nothing(run, tenant, actor):
    """Neither save, nor claim, nor renew, nor report, nor finish, nor fail, nor give back."""
    old = run(actors.activate(tenant, actor.id)).actor
    run(tasks.submit(tenant, [tasks.NewTask("one", actor=actor.id)]))
    (held,) = run(tasks.claim(tenant, old))
    recovery = run(actors.activate(tenant, actor.id))
    new = recovery.actor
    assert new.generation == old.generation + 1
    for refused in (actors.save(old, {}), tasks.claim(tenant, old)):
        with pytest.raises(StaleActor, match=f"incarnation {old.generation}"):
            run(refused)
    for refused in (tasks.finish(held), tasks.fail(held, "x"), tasks.progress(held, 1)):
        with pytest.raises(LeaseLost):
            run(refused)
    assert run(tasks.renew([held])) == {held.id} == run(tasks.release([held]))
    (taken,) = recovery.claims
    assert (taken.id, taken.owner, taken.fence) == (held.id, new.owner, held.fence + 1)
    run(tasks.finish(taken, {"by": "new"}))
    assert run(tasks.get(tenant, held.id)).result == {"by": "new"}


def test_recovery_tells_everything_in_one_statement(run, tenant, actor, agent):
    """Registration, last state, live claims, unfinished tasks; nothing of other actors."""
    stranger = run(actors.register(tenant, kind="planner", agent=agent.id))
    first, second, third = (tasks.NewTask(it, {"k": it}, actor=actor.id) for it in "abc")
    run(tasks.submit(tenant, [first, second, third], [tasks.Edge(third.id, second.id)]))
    run(tasks.submit(tenant, [tasks.NewTask("d", actor=stranger.id, queue="other")]))
    mine = run(actors.activate(tenant, actor.id)).actor
    claims = run(tasks.claim(tenant, mine, most=2))
    done = next(it for it in claims if it.kind == "a")
    run(tasks.progress(done, {"half": True}))
    saved = run(actors.save(mine, {"at": 2}))
    asked = []

    def counted():
        work = actors.recover(tenant, actor.id)()
        query = next(work)
        while True:
            asked.append(query)
            rows = yield query
            try:
                query = work.send(rows)
            except StopIteration as stop:
                return stop.value

    found = run(counted)
    assert len(asked) == 1
    assert found.actor == saved
    held = {it.id: it for it in claims}
    expected = [held[it.id] for it in found.claims]
    assert [(it.fence, it.owner, it.payload) for it in found.claims] == [
        (it.fence, it.owner, it.payload) for it in expected
    ]
    assert {(it.kind, it.state, it.owner) for it in found.unfinished} == {
        ("a", "running", mine.owner),
        ("b", "running", mine.owner),
        ("c", "waiting", None),
    }
    assert {it.id for it in found.unfinished} == {first.id, second.id, third.id}
    with pytest.raises(UnknownActor):
        run(actors.recover(tenant, uuid4()))


def test_one_of_many_activations_wins_and_all_claims_are_its(router, run, tenant, actor):
    """Activations and claims at once: afterwards every running task is the newest incarnation's."""
    run(tasks.submit(tenant, [tasks.NewTask("k", actor=actor.id) for _ in range(60)]))
    start = threading.Barrier(4)

    def restart():
        start.wait()
        for _ in range(5):
            mine = run(actors.activate(tenant, actor.id)).actor
            try:
                run(tasks.claim(tenant, mine, most=3))
            except StaleActor:
                continue

    threads = [threading.Thread(target=restart) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    last = run(actors.recover(tenant, actor.id))
    assert last.actor.generation == 20
    with router.connection(tenant=tenant) as conn:
        owners = conn.execute(
            "SELECT DISTINCT owner FROM tasks WHERE tenant_id = %s AND state = 'running'", (tenant,)
        ).fetchall()
    assert owners in ([(last.actor.owner,)], [])
