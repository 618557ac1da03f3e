"""The whole life of tasks against a model, with workers and transactions that die at any statement.

The model knows what each call must give, and what every task's state is; Postgres is asked after
each step. A crash is a transaction that is cut off before one of its statements, or before COMMIT.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import pytest
from fix_router import make_tenant
from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from psycopg import sql

from tenantry import LeaseLost, StaleActor, actors, agents, tasks
from tenantry_schema.states import TRANSITIONS, UNFINISHED, effect, strongest

POLICIES = st.sampled_from(["fail", "skip", "ignore"])
ENDED = {"done", "failed", "skipped", "cancelled"}


class Crash(Exception):
    """The process ended here."""


@dataclass
class Modelled:
    """A task as the model believes it to be."""

    needs: dict = field(default_factory=dict)
    state: str = "ready"
    then: str = "failed"
    priority: int = 0
    belongs: bool = False
    most_crashes: int = 100
    fence: int = 0
    owner: str | None = None
    attempts: int = 2
    failures: int = 0
    crashes: int = 0
    expired: bool = False
    late: bool = False


class Life(RuleBasedStateMachine):
    """Submit, claim, renew, report, cancel, requeue, limit, activate; die anywhere."""

    router = None
    fleet = None

    def __init__(self):
        super().__init__()
        self.tenant = make_tenant(self.fleet)
        self.model: dict = {}
        self.claims: list = []
        self.limit: int | None = None
        agent = self.run(agents.register(self.tenant, name="a"))
        actor = self.run(actors.register(self.tenant, kind="k", agent=agent.id))
        self.incarnations = [self.run(actors.activate(self.tenant, actor.id)).actor]

    def run(self, factory, dies_at=None):
        """Run a factory; let it die before its n-th statement, or before COMMIT."""
        if dies_at is None:
            return self.router.run(factory, tenant=self.tenant)

        def mortal():
            work = factory()
            query = next(work)
            for _ in range(dies_at):
                rows = yield query
                try:
                    query = work.send(rows)
                except StopIteration:
                    break
            raise Crash

        with pytest.raises(Crash):
            self.router.run(mortal, tenant=self.tenant)
        return None

    def run_or_die(self, data, factory):
        """Run a factory, now and then only after it died once, at any of its statements."""
        if data.draw(st.booleans()):
            self.run(factory, data.draw(st.integers(0, 5)))
        return self.run(factory)

    @rule(
        data=st.data(),
        size=st.integers(1, 6),
        then=st.sampled_from(["failed", "dead"]),
        crashes=st.sampled_from([0, 1, 100]),
        keyed=st.booleans(),
    )
    def submit(self, data, size, then, crashes, keyed):
        retry = tasks.Retry(attempts=2, backoff=0.001, most=0.001, then=then, crashes=crashes)
        actor = self.incarnations[0].id

        def new(number):
            return tasks.NewTask(
                "k",
                retry=retry,
                priority=data.draw(st.integers(0, 2)),
                actor=actor if data.draw(st.booleans()) else None,
                key=f"key {len(self.model)}" if keyed and not number else None,
            )

        made = [new(number) for number in range(size)]
        edges = [
            tasks.Edge(task.id, needed.id, data.draw(POLICIES))
            for index, task in enumerate(made)
            for needed in made[:index]
            if data.draw(st.booleans())
        ]
        factory = tasks.submit(self.tenant, made, edges)
        assert self.run_or_die(data, factory).created
        assert self.run(factory).created
        if keyed:
            again = self.run(tasks.submit(self.tenant, [new(number) for number in range(size)]))
            assert again == tasks.Submitted((made[0].id,), created=False)
        for task in made:
            needs = {it.needs: it.on_failure for it in edges if it.task == task.id}
            self.model[task.id] = Modelled(
                needs,
                "waiting" if needs else "ready",
                then,
                task.priority,
                task.actor is not None,
                crashes,
            )

    def next_ones(self, most):
        """Return what a claim must take: leases that ran out first, then by priority and age."""
        expired = [it for it, task in self.model.items() if task.expired]
        ready = [it for it, task in self.model.items() if task.state == "ready"]
        ready.sort(key=lambda it: -self.model[it].priority)
        if self.limit is not None:
            live = sum(it.state == "running" and not it.expired for it in self.model.values())
            most = max(0, min(most, self.limit - live))
        return (expired + ready)[:most]

    @rule(
        data=st.data(),
        most=st.integers(1, 5),
        owner=st.sampled_from(["a", "a", "b", "actor"]),
        first=st.booleans(),
    )
    def claim(self, data, most, owner, first):
        if first:
            self.time_passes()
        who = self.incarnations[-1] if owner == "actor" else owner
        name = who.owner if owner == "actor" else owner
        self.order("run_after", "state = 'ready'")
        self.order("lease_until", "state = 'running' AND lease_until < clock_timestamp()")
        found = self.run_or_die(data, tasks.claim(self.tenant, who, most=most))
        taken = self.next_ones(most)
        given_up = []
        for it in taken:
            task = self.model[it]
            task.crashes += task.state == "running"
            task.state, task.owner, task.expired = "running", name, False
            task.fence += 1
            if task.late or task.crashes > task.most_crashes:
                given_up.append(it)
        assert {(it.id, it.fence, it.owner) for it in found} == {
            (it, self.model[it].fence, name) for it in taken if it not in given_up
        }
        for it in sorted(given_up, key=lambda it: -self.model[it].priority):
            self.end(it, "failed" if self.model[it].late else self.model[it].then)
        # Of some claims the worker never learns: it dies when COMMIT has reached the server.
        if data.draw(st.integers(0, 4)):
            self.claims += sorted(found, key=lambda it: list(self.model).index(it.id))

    @precondition(lambda self: len(self.incarnations) > 1)
    @rule(data=st.data())
    def an_older_incarnation_is_refused(self, data):
        old = data.draw(st.sampled_from(self.incarnations[:-1]))
        for refused in (tasks.claim(self.tenant, old), actors.save(old, {})):
            with pytest.raises(StaleActor):
                self.run(refused)

    @rule(data=st.data())
    def activate(self, data):
        found = self.run_or_die(data, actors.activate(self.tenant, self.incarnations[0].id))
        former = self.incarnations[-1].owner
        self.incarnations.append(found.actor)
        held = {it for it, task in self.model.items() if task.owner == former}
        for it in held:
            task = self.model[it]
            task.owner, task.fence, task.expired = found.actor.owner, task.fence + 1, task.late
        assert {(it.id, it.fence) for it in found.claims} == {
            (it, self.model[it].fence) for it in held
        }
        assert {it.id for it in found.unfinished} == {
            it for it, task in self.model.items() if task.belongs and task.state in UNFINISHED
        }
        self.claims += sorted(found.claims, key=lambda it: list(self.model).index(it.id))

    @rule(most=st.none() | st.none() | st.integers(0, 5))
    def limits(self, most):
        self.run(tasks.limit(self.tenant, most))
        self.limit = most

    @rule()
    def time_passes(self):
        """Every lease runs out."""
        self.order("lease_until", "state = 'running'")
        for task in self.model.values():
            task.expired = task.state == "running"

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def a_deadline_passes(self, data):
        it = data.draw(st.sampled_from(list(self.model)))
        task = self.model[it]
        assume(task.state in ("waiting", "ready") or task.expired)
        task.late = True
        with self.router.connection(tenant=self.tenant) as conn:
            conn.execute(
                "UPDATE tasks SET deadline = '2025-01-01' WHERE tenant_id = %s AND id = %s",
                (self.tenant, it),
            )

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), how=st.sampled_from(["finish", "fail", "give up", "release", "progress"]))
    def report(self, data, how):
        """Say something by any claim that was ever made, old or new, once or after a crash."""
        mistaken = [it for it in self.claims if self.is_mistaken(it)]
        from_these = mistaken if mistaken and data.draw(st.booleans()) else self.claims
        claim = data.draw(st.sampled_from(from_these))
        factory = {
            "finish": lambda: tasks.finish(claim, {"by": claim.owner}),
            "fail": lambda: tasks.fail(claim, "x"),
            "give up": lambda: tasks.fail(claim, "x", retry=False),
            "release": lambda: tasks.release([claim]),
            "progress": lambda: tasks.progress(claim, 1),
        }[how]()
        task = self.model[claim.id]
        held = task.state == "running" and task.fence == claim.fence
        if held:
            self.run_or_die(data, factory)
            self.told(claim.id, task, how)
        elif how == "release":
            assert self.run(factory) == {claim.id}
        else:
            with pytest.raises(LeaseLost):
                self.run(factory)

    def is_mistaken(self, claim):
        """Say whether only the fence tells that a claim is not its owner's newest."""
        task = self.model[claim.id]
        return task.owner == claim.owner and task.fence != claim.fence

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def renew(self, data):
        owner = data.draw(st.sampled_from(sorted({it.owner for it in self.claims})))
        claims = {it.id: it for it in self.claims if it.owner == owner}
        lost = self.run_or_die(data, tasks.renew(list(claims.values())))
        for it, claim in claims.items():
            task = self.model[it]
            held = (task.state, task.fence, task.late) == ("running", claim.fence, False)
            held = held and not (task.expired and self.limit is not None)
            assert (it in lost) == (not held)
            task.expired = task.expired and not held

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def cancel(self, data):
        it = data.draw(st.sampled_from(list(self.model)))
        assume(self.model[it].state not in ENDED)
        self.run_or_die(data, tasks.cancel(self.tenant, [it]))
        self.end(it, "cancelled")

    @precondition(lambda self: any(it.state == "dead" for it in self.model.values()))
    @rule(data=st.data())
    def requeue(self, data):
        dead = [it for it, task in self.model.items() if task.state == "dead"]
        it = data.draw(st.sampled_from(dead))
        assert self.run_or_die(data, tasks.requeue(self.tenant, [it])) == (it,)
        task = self.model[it]
        task.state, task.failures, task.crashes = "ready", 0, 0

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

    def order(self, column, which):
        """Let the time come, in the order in which tasks were submitted: a run can be replayed."""
        with self.router.connection(tenant=self.tenant) as conn:
            conn.execute(
                sql.SQL(
                    "UPDATE tasks SET {} = timestamptz '2026-01-01' + number * interval '1 s' "
                    "FROM unnest(%s::uuid[]) WITH ORDINALITY AS given (id, number) "
                    "WHERE tenant_id = %s AND tasks.id = given.id AND {}"
                ).format(sql.Identifier(column), sql.SQL(which)),
                (list(self.model), self.tenant),
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
def test_the_life_of_tasks_follows_the_model(router, laid_out, pytestconfig):
    """Whatever is done in whatever order, and whatever dies on the way."""
    through = pytestconfig.getoption("--through-bouncer")
    from hypothesis.stateful import run_state_machine_as_test

    machine = type("Life", (Life,), {"router": router, "fleet": laid_out})
    run_state_machine_as_test(
        machine,
        settings=settings(
            # The statements are the same behind a pooler.
            max_examples=15 if through else 50,
            stateful_step_count=50,
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
    drawn = re.search(r"change = ANY \('{(.+)}'::text\[\]\)", text)[1].split(",")
    assert sorted(drawn) == sorted(f"{before}>{after}" for before, after in TRANSITIONS)
