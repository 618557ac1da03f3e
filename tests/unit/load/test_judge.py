"""The judge accuses nobody who kept the promise, and everybody who broke it, by name."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from hypothesis import assume, given
from hypothesis import strategies as st

from tenantry_loadtest.history import History, Outcome, Run, Seat, Write
from tenantry_loadtest.judge import Fault, Place, judge

SEATS = tuple(Seat(f"load-x-{it}", UUID(int=it), UUID(int=it + 100)) for it in range(3))
RUN = Run("load-x", 7, SEATS)
HOMES = {
    seat.key: Place(f"shard-{number % 2}", f"bucket_{number:04d}", seat.key)
    for number, seat in enumerate(SEATS)
}
ELSEWHERE = Place("shard-0", "bucket_0099", SEATS[0].key)

TENANTS = st.sampled_from([seat.key for seat in SEATS])


@st.composite
def worlds(draw):
    """What users of an honest fleet were told, and what it holds."""
    writes, found = {}, {}
    for number in range(draw(st.integers(1, 12))):
        outcome = draw(st.sampled_from(Outcome))
        write = Write(f"load-x-0-{number}", "tasks", draw(TENANTS), outcome)
        writes[write.key] = write
        happened = outcome is Outcome.ACKNOWLEDGED or (
            outcome is Outcome.UNKNOWN and draw(st.booleans())
        )
        if happened:
            found[write.key] = [HOMES[write.tenant]]
    return History(RUN, writes, ()), found


def faults(history, found):
    return {(it.fault, it.key) for it in judge(history, found, HOMES).findings}


@given(worlds())
def test_an_honest_fleet_is_not_accused(world):
    """Whatever failed and whatever is unknown; every write is counted once."""
    history, found = world
    verdict = judge(history, found, HOMES)
    assert verdict.clean
    assert len(history.writes) == (
        verdict.acknowledged + verdict.failed + verdict.committed + verdict.absent
    )
    assert verdict.acknowledged + verdict.committed == len(found)


@given(worlds(), st.data())
def test_a_record_that_was_cut_off_accuses_nobody(world, data):
    """A kill takes outcomes away, never a promise that was kept."""
    history, found = world
    lost = data.draw(st.sets(st.sampled_from(sorted(history.writes))))
    writes = {
        key: replace(it, outcome=Outcome.UNKNOWN) if key in lost else it
        for key, it in history.writes.items()
    }
    assert judge(replace(history, writes=writes), found, HOMES).clean


@given(worlds(), st.data())
def test_every_broken_promise_is_named(world, data):
    """One row is lost, doubled, moved, or appears; exactly that write is named, for that reason."""
    history, found = world
    key = data.draw(st.sampled_from(sorted(history.writes)))
    write = history.writes[key]
    there = found.pop(key, [])
    fault = data.draw(st.sampled_from(Fault))
    if fault is Fault.MISSING:
        assume(write.outcome is Outcome.ACKNOWLEDGED)
    elif fault is Fault.GHOST:
        assume(write.outcome is Outcome.FAILED)
        found[key] = [HOMES[write.tenant]]
    elif fault is Fault.DOUBLED:
        assume(there)
        copy = data.draw(st.sampled_from([HOMES[write.tenant], ELSEWHERE]))
        found[key] = [*there, copy]
    elif fault is Fault.MISPLACED:
        assume(there)
        found[key] = [ELSEWHERE]
    elif fault is Fault.STRAY:
        found = {**found, "load-x-9-9": [ELSEWHERE]} | ({key: there} if there else {})
        key = "load-x-9-9"
    else:
        found = found | ({key: there} if there else {})
        history = replace(history, unread=(key,))
    assert faults(history, found) == {(fault, key)}


def test_a_finding_says_where_to_look():
    """The table and the home of what is missing, every place of what is doubled."""
    tenant = SEATS[1].key
    write = Write("load-x-0-1", "logs", tenant, Outcome.ACKNOWLEDGED)
    history = History(RUN, {write.key: write}, ())
    missing = judge(history, {}, HOMES).findings[0]
    assert missing.detail == f"table logs, expected in bucket_0001 on shard-1 for tenant {tenant}"
    doubled = judge(history, {write.key: [HOMES[tenant], ELSEWHERE]}, HOMES).findings[0]
    assert "bucket_0001 on shard-1" in doubled.detail
    assert "bucket_0099 on shard-0" in doubled.detail
