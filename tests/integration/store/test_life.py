"""The whole life of tasks against a model, with workers and transactions that die at any statement.

The model knows what each call must give, and what every task's state is; Postgres is asked after
each step. A crash is a transaction that is cut off before one of its statements, or before COMMIT.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from fix_router import make_tenant
from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from psycopg import sql

from tenantry import LeaseLost, tasks
from tenantry_schema.states import TRANSITIONS, effect, strongest

POLICIES = st.sampled_from(["fail", "skip", "ignore"])
ENDED = {"done", "failed", "skipped", "cancelled"}


class Crash(Exception):
    """The process ended here."""


@dataclass
class Modelled:
    """A task as the model believes it to be."""

    needs: dict = field(default_factory=dict)
    state: str = "ready"
    fence: int = 0
    owner: str | None = None
    attempts: int = 2
    failures: int = 0
    then: str = "failed"
    expired: bool = False


class Life(RuleBasedStateMachine):
    """Submit, claim, renew, finish, fail, release, cancel, requeue; die anywhere."""

    router = None
    fleet = None

    def __init__(self):
        super().__init__()
        self.tenant = make_tenant(self.fleet)
        self.model: dict = {}
        self.claims: list = []

    def run(self, factory, dies_at=None):
        """Run a factory; let it die before its n-th statement, where there are so many."""
        if dies_at is None:
            return self.router.run(factory, tenant=self.tenant)

        def mortal():
            work = factory()
            query, count = next(work), 0
            while True:
                if count == dies_at:
                    raise Crash
                rows = yield query
                count += 1
                try:
                    query = work.send(rows)
                except StopIteration:
                    raise Crash from None

        with pytest.raises(Crash):
            self.router.run(mortal, tenant=self.tenant)
        return None

    @rule(data=st.data(), size=st.integers(1, 6), then=st.sampled_from(["failed", "dead"]))
    def submit(self, data, size, then):
        retry = tasks.Retry(attempts=2, backoff=0.001, most=0.001, then=then, crashes=100)
        made = [tasks.NewTask("k", retry=retry) for _ in range(size)]
        edges = [
            tasks.Edge(task.id, needed.id, data.draw(POLICIES))
            for index, task in enumerate(made)
            for needed in made[:index]
            if data.draw(st.booleans())
        ]
        factory = tasks.submit(self.tenant, made, edges)
        if data.draw(st.booleans()):
            self.run(factory, data.draw(st.integers(0, 1)))
        self.run(factory)
        self.run(factory)
        for task in made:
            needs = {it.needs: it.on_failure for it in edges if it.task == task.id}
            state = "waiting" if needs else "ready"
            self.model[task.id] = Modelled(needs, state, then=then)

    @rule(data=st.data(), most=st.integers(1, 5), owner=st.sampled_from(["a", "b", "c"]))
    def claim(self, data, most, owner):
        factory = tasks.claim(self.tenant, owner, most=most)
        if data.draw(st.booleans()):
            self.run(factory, data.draw(st.integers(0, 1)))
        self.order("run_after", "ready")
        found = self.run(factory)
        free = {it for it, task in self.model.items() if task.state == "ready" or task.expired}
        assert {it.id for it in found} <= free
        assert len(found) == min(most, len(free))
        for claim in sorted(found, key=lambda it: list(self.model).index(it.id)):
            task = self.model[claim.id]
            task.state, task.owner, task.expired = "running", owner, False
            task.fence += 1
            assert (claim.fence, claim.owner) == (task.fence, owner)
            self.claims.append(claim)

    @rule()
    def time_passes(self):
        """Every lease runs out."""
        self.order("lease_until", "running")
        for task in self.model.values():
            task.expired = task.state == "running"

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), how=st.sampled_from(["finish", "fail", "give up", "release", "progress"]))
    def report(self, data, how):
        """Say something by any claim that was ever made, old or new, once or after a crash."""
        claim = data.draw(st.sampled_from(self.claims))
        factory = {
            "finish": lambda: tasks.finish(claim, {"by": claim.owner}),
            "fail": lambda: tasks.fail(claim, "x"),
            "give up": lambda: tasks.fail(claim, "x", retry=False),
            "release": lambda: tasks.release([claim]),
            "progress": lambda: tasks.progress(claim, 1),
        }[how]()
        task = self.model[claim.id]
        held = task.state == "running" and task.fence == claim.fence
        if held and data.draw(st.booleans()):
            self.run(factory, data.draw(st.integers(0, 1)))
        if not held:
            if how == "release":
                assert self.run(factory) == {claim.id}
            else:
                with pytest.raises(LeaseLost):
                    self.run(factory)
            return
        self.run(factory)
        self.told(claim.id, task, how)

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def renew(self, data):
        owner = data.draw(st.sampled_from(sorted({it.owner for it in self.claims})))
        claims = [it for it in self.claims if it.owner == owner]
        newest = {it.id: it for it in claims}
        lost = self.run(tasks.renew(list(newest.values())))
        for it, claim in newest.items():
            task = self.model[it]
            held = (task.state, task.fence) == ("running", claim.fence)
            assert (it in lost) == (not held)
            task.expired = task.expired and not held

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def cancel(self, data):
        it = data.draw(st.sampled_from(list(self.model)))
        assume(self.model[it].state not in ENDED)
        factory = tasks.cancel(self.tenant, [it])
        if data.draw(st.booleans()):
            self.run(factory, data.draw(st.integers(0, 1)))
        self.run(factory)
        self.end(it, "cancelled")

    @precondition(lambda self: any(it.state == "dead" for it in self.model.values()))
    @rule(data=st.data())
    def requeue(self, data):
        dead = [it for it, task in self.model.items() if task.state == "dead"]
        it = data.draw(st.sampled_from(dead))
        assert self.run(tasks.requeue(self.tenant, [it])) == (it,)
        self.model[it].state, self.model[it].failures = "ready", 0

    def told(self, it, task, how):
        if how == "progress":
            return
        task.owner, task.expired = None, False
        if how == "finish":
            self.end(it, "done")
        elif how == "release":
            task.state = "ready"
        else:
            task.failures += 1
            tries = how == "fail" and task.failures < task.attempts
            self.end(it, "ready" if tries else task.then)

    def end(self, it, state):
        """Give a task a state, and everything that needs it what follows."""
        task = self.model[it]
        task.state, task.owner, task.expired = state, None, False
        if state in ENDED:
            for other, needing in self.model.items():
                if it in needing.needs and needing.state == "waiting":
                    self.follow(other, needing)

    def follow(self, it, task):
        ends = {need: self.model[need].state for need in task.needs}
        effects = {
            effect(state, task.needs[need]) for need, state in ends.items() if state in ENDED
        }
        fates = frozenset(effects - {None})
        if fates:
            self.end(it, strongest(fates))
        elif all(state in ENDED for state in ends.values()):
            task.state = "ready"

    def order(self, column, state):
        """Let the time come, in the order in which tasks were submitted: a run can be replayed."""
        with self.router.connection(tenant=self.tenant) as conn:
            conn.execute(
                sql.SQL(
                    "UPDATE tasks SET {} = timestamptz '2026-01-01' + number * interval '1 s' "
                    "FROM unnest(%s::uuid[]) WITH ORDINALITY AS given (id, number) "
                    "WHERE tenant_id = %s AND tasks.id = given.id AND state = %s"
                ).format(sql.Identifier(column)),
                (list(self.model), self.tenant, state),
            )

    @invariant()
    def postgres_and_the_model_agree(self):
        with self.router.connection(tenant=self.tenant) as conn:
            rows = conn.execute(
                "SELECT id, state, fence, owner FROM tasks WHERE tenant_id = %s", (self.tenant,)
            ).fetchall()
            last = conn.execute(
                "SELECT DISTINCT ON (task_id) task_id, to_state, step, "
                "count(*) OVER (PARTITION BY task_id) FROM transitions "
                "WHERE tenant_id = %s ORDER BY task_id, step DESC",
                (self.tenant,),
            ).fetchall()
        found = {it: (state, fence, owner) for it, state, fence, owner in rows}
        assert found == {it: (t.state, t.fence, t.owner) for it, t in self.model.items()}
        assert {it: state for it, state, _, _ in last} == {
            it: task.state for it, task in self.model.items()
        }
        assert all(step == count for _, _, step, count in last)


@pytest.mark.slow
def test_the_life_of_tasks_follows_the_model(router, laid_out):
    """Whatever is done in whatever order, and whatever dies on the way."""
    from hypothesis.stateful import run_state_machine_as_test

    machine = type("Life", (Life,), {"router": router, "fleet": laid_out})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=40,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_every_transition_is_one_that_the_model_knows(router, tenant):
    """The database's list and ours are one list."""
    with router.connection(tenant=tenant) as conn:
        text = conn.execute(
            sql.SQL(
                "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = "
                "'tasks_transition_check' AND conrelid = 'tasks'::regclass"
            )
        ).fetchone()[0]
    assert all(f"'{before}>{after}'" in text for before, after in TRANSITIONS)
    assert text.count(">") == len(TRANSITIONS) + 1
