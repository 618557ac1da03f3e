"""Schedules on real servers: one fire makes one task, by the database's clock."""

from __future__ import annotations

import random
import threading
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from tenantry import InvalidInput, InvalidSchedule, UnknownSchedule, schedules, tasks
from tenantry.errors import AlreadyExists


@pytest.fixture
def run(router, tenant):
    """Run a factory for the test's tenant."""
    return lambda factory: router.run(factory, tenant=tenant)


def set_back(router, tenant, seconds):
    with router.connection(tenant=tenant) as conn:
        conn.execute(
            "UPDATE schedules SET next_fire = next_fire - %s WHERE tenant_id = %s",
            (timedelta(seconds=seconds), tenant),
        )


def test_a_schedule_fires_at_its_moments_and_moves_on(router, run, tenant):
    """The task has the template's facts and says which fire it is; nothing fires twice."""
    template = tasks.NewTask("report", {"of": "sales"}, priority=4, retry=tasks.Retry(attempts=7))
    made = run(schedules.create(tenant, name="nightly", task=template, every=3600))
    (fired,) = run(schedules.fire_due(tenant))
    assert run(schedules.fire_due(tenant)) == []
    assert (fired.schedule, fired.moment) == (made.id, made.next_fire)
    (claim,) = run(tasks.claim(tenant, "w"))
    assert (claim.id, claim.priority, claim.max_attempts) == (fired.task, 4, 7)
    assert claim.payload == {
        "of": "sales",
        "schedule": "nightly",
        "fire": fired.moment.isoformat(),
    }
    found = run(schedules.get(tenant, made.id))
    assert (found.fires, found.next_fire) == (1, made.next_fire + timedelta(hours=1))


@pytest.mark.parametrize(("misfire", "made"), [("skip", 1), ("once", 1), ("all", 11)])
def test_what_was_missed(router, run, tenant, misfire, made):
    """Ten minutes late on a schedule of every minute, with a grace of half a minute."""
    template = tasks.NewTask("k")
    options = {"misfire": misfire, "grace": 30, "starts": datetime.now(UTC)}
    run(schedules.create(tenant, name="s", task=template, every=60, **options))
    set_back(router, tenant, 600)
    fired = run(schedules.fire_due(tenant))
    assert len(fired) == made
    late = datetime.now(UTC) - fired[0].moment
    assert (late < timedelta(seconds=60)) == (misfire == "skip")


def test_many_schedulers_make_each_fire_once(router, run, tenant):
    """Eight at once, over and over, on schedules that are far behind."""
    for number in range(6):
        options = {"every": 1, "misfire": "all", "starts": datetime.now(UTC)}
        run(schedules.create(tenant, name=f"s{number}", task=tasks.NewTask("k"), **options))
    set_back(router, tenant, 250)
    start = threading.Barrier(8)
    fired = []

    def scheduler():
        start.wait()
        for _ in range(6):
            fired.extend(run(schedules.fire_due(tenant)))

    threads = [threading.Thread(target=scheduler) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Those who came while all were locked went away with nothing.
    while left := run(schedules.fire_due(tenant)):
        fired.extend(left)
    moments = [(it.schedule, it.moment) for it in fired]
    assert len(moments) == len(set(moments)) >= 6 * 250
    with router.connection(tenant=tenant) as conn:
        counted = conn.execute(
            "SELECT (SELECT count(*) FROM tasks WHERE tenant_id = %(t)s), "
            "(SELECT sum(fires) FROM schedules WHERE tenant_id = %(t)s)",
            {"t": tenant},
        ).fetchone()
    assert counted == (len(moments), len(moments))


class Crash(Exception):
    """The scheduler ended here."""


def mortal(factory, dies_at):
    """Let a work die before its n-th statement, or before COMMIT where it has no more."""

    def work():
        inner = factory()
        query = next(inner)
        for _ in range(dies_at):
            rows = yield query
            try:
                query = inner.send(rows)
            except StopIteration:
                break
        raise Crash

    return work


@pytest.mark.parametrize("dies_at", range(4))
def test_a_scheduler_that_dies_has_made_nothing(router, run, tenant, dies_at):
    """Before each of its statements, and before COMMIT: the next one makes every task."""
    options = {"misfire": "all", "starts": datetime.now(UTC) - timedelta(seconds=95)}
    run(schedules.create(tenant, name="s", task=tasks.NewTask("k"), every=10, **options))
    with pytest.raises(Crash):
        run(mortal(schedules.fire_due(tenant), dies_at))
    assert run(tasks.claim(tenant, "w")) == []
    assert len(run(schedules.fire_due(tenant))) == 10


def test_many_schedulers_that_crash_leave_no_moment_out(router, run, tenant):
    """Six at once, each of which dies at any statement every other time: each moment, once."""
    begin = datetime.now(UTC) - timedelta(seconds=900)
    options = {"every": 2, "misfire": "all", "starts": begin}
    made = run(schedules.create(tenant, name="s", task=tasks.NewTask("k"), **options))
    chance, fired = random.Random(11), []

    def scheduler():
        for _ in range(16):
            factory = schedules.fire_due(tenant)
            if chance.random() < 0.5:
                with pytest.raises(Crash):
                    run(mortal(factory, chance.randrange(4)))
            else:
                fired.extend(run(factory))

    threads = [threading.Thread(target=scheduler) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Whoever comes while another one fires leaves it to that one: something may be left.
    while found := run(schedules.fire_due(tenant)):
        fired += found
    moments = sorted(it.moment for it in fired)
    assert len(moments) >= 450
    assert moments == [begin + timedelta(seconds=2) * it for it in range(len(moments))]
    with router.connection(tenant=tenant) as conn:
        query = "SELECT count(*) FROM tasks WHERE tenant_id = %s"
        assert conn.execute(query, (tenant,)).fetchone() == (len(moments),)
    assert run(schedules.get(tenant, made.id)).fires == len(moments)


def test_a_schedule_that_was_set_back_makes_no_task_twice(router, run, tenant):
    """The task's key names the schedule and the moment."""
    run(schedules.create(tenant, name="s", task=tasks.NewTask("k"), every=60))
    (first,) = run(schedules.fire_due(tenant))
    with router.connection(tenant=tenant) as conn:
        conn.execute(
            "UPDATE schedules SET next_fire = %s WHERE tenant_id = %s", (first.moment, tenant)
        )
    assert run(schedules.fire_due(tenant)) == []
    assert len(run(tasks.claim(tenant, "w", most=5))) == 1


def test_pausing_resuming_removing(router, run, tenant):
    """A pause is not caught up; what was made stays."""
    made = run(schedules.create(tenant, name="s", task=tasks.NewTask("k"), every=60))
    run(schedules.pause(tenant, made.id))
    set_back(router, tenant, 3600)
    assert run(schedules.fire_due(tenant)) == []
    resumed = run(schedules.resume(tenant, made.id))
    assert resumed.next_fire > datetime.now(UTC)
    assert run(schedules.resume(tenant, made.id)) == resumed
    assert [it.id for it in run(schedules.page(tenant))] == [made.id]
    run(schedules.remove(tenant, made.id))
    for gone in (schedules.get, schedules.pause, schedules.resume, schedules.remove):
        with pytest.raises(UnknownSchedule):
            run(gone(tenant, made.id))


def test_creating_again_is_a_repetition_or_a_conflict(run, tenant):
    """The same name and rhythm give the stored one."""
    create = schedules.create(tenant, name="s", task=tasks.NewTask("k"), cron="0 3 * * *")
    first = run(create)
    assert run(create) == first
    again = schedules.create(tenant, name="s", task=tasks.NewTask("k"), cron="0 3 * * *")
    assert run(again).id == first.id
    same = {"task": tasks.NewTask("k"), "cron": "0 3 * * *"}
    for other, named in (
        ({"cron": "0 4 * * *"}, "cron"),
        ({"time_zone": "Europe/Vienna"}, "time_zone"),
        ({"misfire": "all"}, "misfire"),
        ({"task": tasks.NewTask("k", {"of": "sales"})}, "payload"),
        ({"task": tasks.NewTask("k", retry=tasks.Retry(attempts=9))}, "retry"),
        ({"task": tasks.NewTask("k", queue="q", priority=1)}, "queue, priority"),
    ):
        with pytest.raises(AlreadyExists, match=f"another.*{named}"):
            run(schedules.create(tenant, name="s", **{**same, **other}))


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"cron": "nonsense"}, InvalidSchedule),
        ({"every": -1}, InvalidSchedule),
        ({"every": 0.5}, InvalidSchedule),
        ({"every": 60, "cron": "* * * * *"}, InvalidSchedule),
        ({}, InvalidSchedule),
        ({"every": 60, "time_zone": "Nowhere"}, InvalidSchedule),
        ({"every": 60, "misfire": "maybe"}, InvalidInput),
        ({"every": 60, "grace": -1}, InvalidInput),
        ({"every": 60, "name": ""}, InvalidInput),
        ({"every": 60, "starts": "now"}, InvalidInput),
        ({"every": 60, "task": tasks.NewTask("k", key="x")}, InvalidSchedule),
    ],
)
def test_an_impossible_schedule_is_refused(wrong, error):
    """Before anything is sent."""
    with pytest.raises(error):
        schedules.create(uuid4(), **{"name": "s", "task": tasks.NewTask("k"), **wrong})


def test_a_date_that_never_comes_is_refused(run, tenant):
    """Nothing is stored."""
    with pytest.raises(InvalidSchedule, match="does not fire"):
        run(schedules.create(tenant, name="s", task=tasks.NewTask("k"), cron="0 0 31 6 *"))
    assert run(schedules.page(tenant)) == []
