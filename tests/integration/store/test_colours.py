"""One text for both colours: the same story, told through either door, ends alike."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tenantry import AsyncRouter, LeaseLost, actors, agents, history, schedules, tasks


def story(tenant):
    """Yield factories, be sent their results, and return what must not depend on the door."""
    now = datetime.now(UTC)
    span = {"since": now - timedelta(hours=1), "until": now + timedelta(hours=1)}
    agent = yield agents.register(tenant, name="a", metadata={"m": 1})
    agent = yield agents.update(agent, name="b")
    actor = yield actors.register(tenant, kind="k", agent=agent.id)
    mine = (yield actors.activate(tenant, actor.id)).actor
    first, second, third = (tasks.NewTask(it, actor=actor.id) for it in "abc")
    edges = [tasks.Edge(second.id, first.id), tasks.Edge(third.id, second.id, "skip")]
    stored = yield tasks.submit(tenant, [first, second, third], edges)
    (claim,) = yield tasks.claim(tenant, mine)
    renewed = yield tasks.renew([claim])
    yield tasks.progress(claim, {"half": True})
    mine = yield actors.save(mine, {"at": 1})
    found = yield actors.recover(tenant, actor.id)
    lost, (following,) = yield tasks.exchange([(claim, {"n": 1})], mine)
    refused = yield tasks.finish(claim)
    state = yield tasks.fail(following, "no", retry=False)
    ends = (
        (yield tasks.get(tenant, first.id)),
        (yield tasks.get(tenant, second.id)),
        (yield tasks.get(tenant, third.id)),
    )
    yield schedules.create(tenant, name="s", task=tasks.NewTask("tick"), every=60)
    fired = yield schedules.fire_due(tenant)
    cancelled = yield tasks.cancel(tenant, [it.task for it in fired])
    yield history.log(tenant, [history.NewLog("line", task=first.id)])
    told = yield history.transitions(tenant, **span)
    lines = yield history.logs(tenant, **span)
    return (
        (agent.name, agent.version, stored.created, renewed, lost, type(refused), state),
        ([it.progress for it in found.claims], len(found.unfinished), mine.version),
        [(it.state, it.result, it.error) for it in ends],
        (len(fired), len(cancelled), [it.message for it in lines]),
        sorted((it.from_state, it.to_state, it.step, it.fence) for it in told),
    )


def tell(router, tenant):
    telling = story(tenant)
    result = None
    while True:
        try:
            factory = telling.send(result)
        except StopIteration as stop:
            return stop.value
        try:
            result = router.run(factory, tenant=tenant)
        except LeaseLost as error:
            result = error


async def atell(router, tenant):
    telling = story(tenant)
    result = None
    while True:
        try:
            factory = telling.send(result)
        except StopIteration as stop:
            return stop.value
        try:
            result = await router.run(factory, tenant=tenant)
        except LeaseLost as error:
            result = error


async def test_both_doors_tell_the_same_story(laid_out, router, tenant, other):
    """Everything that is stored, by the same factories."""
    async with AsyncRouter(laid_out.catalog_conninfo()) as arouter:
        through_async = await atell(arouter, other)
    through_sync = tell(router, tenant)
    assert through_async == through_sync
    assert through_sync[0] == ("b", 1, True, set(), set(), LeaseLost, "failed")
    assert [it[0] for it in through_sync[2]] == ["done", "failed", "skipped"]
