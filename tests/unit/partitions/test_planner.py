"""Plans: what is due, and that a plan may be cut off anywhere and made again."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.partitions.simulated import applied, comparable, killed_inside, settled

from tenantry_partitions.encoding import BEGINNING, END
from tenantry_partitions.planner import plan
from tenantry_partitions.policy import AtEnd, Policy
from tenantry_partitions.state import Default, Partition, Retired, TableState
from tenantry_schema.timing import Span, partition_name

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
DAY = timedelta(days=1)
TODAY = NOW.replace(hour=0)


def policy(interval="1 day", **more):
    return Policy.parse({"control": "at", "interval": interval, "premake": 3, **more})


def partition(rule, start, end=None, **more):
    end = end or rule.interval.after(start)
    return Partition(start, end, partition_name("t", start, rule.pattern), **more)


def days(rule, first, last, **more):
    return tuple(partition(rule, TODAY + DAY * it, **more) for it in range(first, last + 1))


def table(*partitions, **more):
    return TableState("public", "t", tuple(partitions), **more)


@st.composite
def situations(draw):
    """A policy, and a table that some other runs, people and pg_partman may have left."""
    at_end = draw(st.sampled_from(AtEnd))
    rule = policy(
        draw(st.sampled_from(["1 day", "1 week", "6 hours", "1 month"])),
        premake=draw(st.integers(1, 5)),
        at_end=at_end,
        retention="2 months" if at_end is not AtEnd.KEEP else None,
    )
    grid, current = rule.grid, rule.grid.index(NOW)
    chosen = draw(st.sets(st.integers(current - 20, current + 7), max_size=12))
    default = draw(st.booleans())
    pending = draw(st.sampled_from([None, *sorted(chosen)])) if chosen and not default else None
    attached = [
        replace(
            partition(rule, grid.start(it)),
            pending=it == pending,
            then=draw(st.sampled_from([None, at_end])) if it == pending else None,
        )
        for it in chosen
    ]
    gone = draw(st.sets(st.integers(current - 40, current - 21), max_size=3))
    retired = tuple(
        Retired(grid.start(it), grid.start(it + 1), partition(rule, grid.start(it)).name, then)
        for it in gone
        for then in [draw(st.sampled_from(AtEnd))]
    )
    state = table(*attached, retired=retired)
    if default:
        state = replace(state, default=draw(defaults(rule, state)))
    if draw(st.booleans()):
        name = partition(rule, grid.start(current + draw(st.integers(0, 3)))).name
        if name not in {it.name for it in attached}:
            state = replace(state, taken=frozenset({name}))
    return rule, state


@st.composite
def defaults(draw, rule, state):
    free = [
        it
        for it in range(rule.grid.index(NOW) - 25, rule.grid.index(NOW) + 9)
        if not any(p.start == rule.grid.start(it) for p in state.partitions)
    ]
    cells = sorted(draw(st.sets(st.sampled_from(free), max_size=2)))
    if not cells:
        return Default("t_default")
    minute = timedelta(minutes=1)
    limit = rule.grid.index(rule.horizon(NOW))
    sides = ([it for it in cells if it < limit], [it for it in cells if it >= limit])
    return Default(
        "t_default",
        *(
            (rule.grid.start(side[0]) + minute, rule.grid.start(side[-1] + 1) - minute)
            if side
            else None
            for side in sides
        ),
    )


@given(situations(), st.data())
def test_a_plan_cut_off_anywhere_ends_the_same(situation, data):
    """After any prefix, and inside any step that has several transactions."""
    rule, state = situation
    expected = settled(rule, state, NOW)
    steps = plan(rule, state, NOW, archiving=True).steps
    cut = data.draw(st.integers(0, len(steps)))
    for step in steps[:cut]:
        state = applied(state, step)
    assert comparable(settled(rule, state, NOW)) == comparable(expected)
    if cut < len(steps):
        for half in killed_inside(state, steps[cut]):
            assert comparable(settled(rule, half, NOW)) == comparable(expected)


@given(situations())
def test_rows_of_now_and_of_the_next_intervals_have_a_place(situation):
    """Unless a name is taken, or rows of the default partition are in the way."""
    rule, state = situation
    end = settled(rule, state, NOW)
    found = plan(rule, end, NOW, archiving=True)
    if not {"squatter", "default-rows"} & {it.kind for it in found.findings}:
        assert found.ahead == rule.premake
    assert all(it.start <= NOW or it.name not in end.taken for it in end.partitions)


@given(situations())
def test_nothing_that_may_still_be_needed_is_taken_away(situation):
    """Only what ended before the retention goes, and only as the policy says."""
    rule, state = situation
    for step in plan(rule, state, NOW, archiving=True).steps:
        if step.verb == "detach":
            assert rule.at_end is not AtEnd.KEEP
            assert step.end <= rule.retention.before(NOW)
        if step.verb == "drop":
            assert step.then is rule.at_end


def test_a_new_set():
    """The current partition, one before it for late rows, and those ahead."""
    found = plan(policy("1 week"), table(), NOW)
    assert [it.partition for it in found.steps] == [
        "t_p20261116",
        "t_p20261123",
        "t_p20261130",
        "t_p20261207",
        "t_p20261214",
    ]
    assert found.ahead == -1
    assert not found.clean
    assert found.steps[1].reason == "no partition takes the rows of now"
    assert found.steps[2].reason == "ahead: 1 of 3"


def test_nothing_is_due():
    """Also for a table without rows, whose set pg_partman would let run out."""
    found = plan(policy(), table(*days(policy(), -9, 3, used=False)), NOW)
    assert found.clean
    assert found.ahead == 3
    assert [(it.kind, it.wrong) for it in found.findings] == [("idle", False)]


def test_an_idle_set_goes_on():
    """The clock decides, not the newest row."""
    found = plan(policy(), table(*days(policy(), -9, -5), *days(policy(), -4, -1, used=False)), NOW)
    assert [it.partition for it in found.steps] == [f"t_p2026112{it}" for it in (5, 6, 7, 8)]
    assert "idle" in {it.kind for it in found.findings}


def test_gaps():
    """A fresh gap is filled; an old one is told."""
    rule = policy()
    have = [it for it in days(rule, -20, 3) if it.start not in {TODAY - DAY * 2, TODAY - DAY * 15}]
    found = plan(rule, table(*have), NOW)
    assert [(it.partition, it.reason) for it in found.steps] == [
        ("t_p20261123", "a gap before now")
    ]
    assert [it.kind for it in found.findings] == ["gap"]


def test_partitions_of_another_length_are_completed():
    """A month and a week in a set of days: what they leave of a day is made as it is."""
    rule = policy()
    noon = TODAY + timedelta(hours=12)
    found = plan(rule, table(partition(rule, TODAY - DAY * 30, noon)), NOW)
    assert (found.steps[0].start, found.steps[0].end) == (noon, TODAY + DAY)
    assert found.findings[0].kind == "overlap"


def test_names_do_not_decide():
    """A partition with a name of its own covers its range; its name is told."""
    rule = policy()
    odd = replace(partition(rule, TODAY), name="t_today")
    found = plan(rule, table(odd, *days(rule, 1, 3)), NOW)
    assert found.steps == ()
    assert [(it.kind, it.wrong) for it in found.findings] == [("wrong-name", True)]


def test_a_squatted_name():
    """What else has the name is not touched, and the rest is made."""
    found = plan(policy(), table(*days(policy(), 0, 1), taken=frozenset({"t_p20261127"})), NOW)
    assert [it.partition for it in found.steps] == ["t_p20261128"]
    assert [(it.kind, it.wrong) for it in found.findings] == [("squatter", True)]
    assert found.ahead == 1


def test_a_pending_detach_is_finished_first():
    """Its rows are hidden, and every other detach is refused until then."""
    rule = policy(retention="5 days", at_end="drop")
    have = days(rule, -9, 3)
    half = replace(have[0], pending=True, then=AtEnd.DROP)
    found = plan(rule, table(half, *have[1:]), NOW)
    assert [(it.verb, it.partition[-4:]) for it in found.steps] == [
        ("finalize", "1116"),
        ("drop", "1116"),
        ("detach", "1117"),
        ("drop", "1117"),
        ("detach", "1118"),
        ("drop", "1118"),
        ("detach", "1119"),
        ("drop", "1119"),
    ]


def test_rows_in_the_default_become_a_partition():
    """After what lies ahead is made, which its CHECK would keep out; the rest needs no guard."""
    rule = policy()
    rows = (TODAY - DAY * 2 + timedelta(hours=1), TODAY + timedelta(hours=9))
    found = plan(rule, table(*days(rule, -9, -3), default=Default("t_default", rows)), NOW)
    assert [it.verb for it in found.steps] == ["guard", *["create"] * 3, "unguard", "promote"]
    step = found.steps[-1]
    assert (step.start, step.end) == (TODAY - DAY * 2, TODAY + DAY)
    early = plan(rule, table(*days(rule, -9, -4), default=Default("t_default", rows)), NOW)
    assert [it.verb for it in early.steps[-2:]] == ["promote", "create"]
    assert early.steps[-1].start == TODAY - DAY * 3


def test_a_promotion_that_was_interrupted():
    """Yesterday: its CHECK would keep rows of today out, and goes before anything else."""
    rule = policy()
    span = (TODAY - DAY * 2, TODAY)
    default = Default("t_default", (span[0], TODAY - DAY), promoting=(span,))
    found = plan(rule, table(*days(rule, -9, -3), default=default), NOW)
    first, *rest = found.steps
    assert (first.verb, first.start, first.end) == ("unguard", *span)
    assert [it.verb for it in rest] == ["guard", *["create"] * 4, "unguard", "promote"]


def test_rows_in_the_default_that_cannot_become_one():
    """What lies behind them is made under a guard, and they are told."""
    rule = policy()
    rows = (TODAY - DAY * 12, TODAY - DAY * 2)
    found = plan(rule, table(*days(rule, -9, -3), default=Default("t_default", rows)), NOW)
    assert [it.verb for it in found.steps] == ["guard", *["create"] * 5, "unguard"]
    assert found.steps[0].start == TODAY - DAY
    assert ("default-rows", True) in {(it.kind, it.wrong) for it in found.findings}


@pytest.mark.parametrize(
    "beyond", [(TODAY + DAY * 300, END), (TODAY + DAY * 300, TODAY + DAY * 300)]
)
def test_rows_of_a_far_time_stop_nothing(beyond):
    """One row of a wrong time in the default: what is due before it is made under a guard."""
    rule = policy()
    found = plan(rule, table(*days(rule, -9, 0), default=Default("t_default", None, beyond)), NOW)
    assert [it.verb for it in found.steps] == ["guard", *["create"] * 3, "unguard"]
    assert found.steps[0].end == TODAY + DAY * 4
    near = Default("t_default", (TODAY + DAY * 2, TODAY + DAY * 2), beyond)
    found = plan(rule, table(*days(rule, -9, 0), default=near), NOW)
    assert [it.verb for it in found.steps] == ["guard", "create", "unguard"]
    assert [it.kind for it in found.findings if it.wrong] == ["default-rows"] * 2


def test_rows_before_the_first_year_are_not_promoted():
    """No partition could begin before them: they are told, and the rest is made."""
    rule = policy("1 week")
    for first in (BEGINNING, BEGINNING + DAY):
        anchored = replace(rule, anchor=TODAY)
        found = plan(anchored, table(default=Default("t_default", (first, TODAY))), NOW)
        assert [it.verb for it in found.steps] == ["guard", *["create"] * 3, "unguard"]


def test_what_is_made_does_not_wait_for_a_detach():
    """A reader that never ends keeps it pending; rows of tomorrow have a place all the same."""
    rule = policy(retention="5 days", at_end="drop")
    half = replace(partition(rule, TODAY - DAY * 9), pending=True, then=AtEnd.DROP)
    found = plan(rule, table(half, *days(rule, -8, 1)), NOW)
    assert [it.verb for it in found.steps][:4] == ["create", "create", "finalize", "drop"]
    assert [it.retires for it in found.steps] == sorted(it.retires for it in found.steps)


def test_a_range_is_not_made_again_before_its_detach_is_finished():
    """The server still refuses it; the next plan makes it."""
    rule = policy()
    half = partition(rule, TODAY - DAY, TODAY + DAY, pending=True)
    found = plan(rule, table(half, *days(rule, 1, 3)), NOW)
    assert [it.verb for it in found.steps] == ["finalize"]
    after = applied(table(half, *days(rule, 1, 3)), found.steps[0])
    assert {it.start for it in plan(rule, after, NOW).steps} == {TODAY}


def test_without_a_store_nothing_is_archived():
    """Partitions wait, attached, and the plan says so."""
    rule = policy(retention="5 days", at_end="archive")
    found = plan(rule, table(*days(rule, -9, 3)), NOW)
    assert found.steps == ()
    assert [it.kind for it in found.findings] == ["archive"]


def test_what_was_detached_to_be_kept_is_kept():
    """A policy that drops from now on does not reach back."""
    rule = policy(retention="5 days", at_end="drop")
    old = Retired(TODAY - DAY * 30, TODAY - DAY * 29, "t_p20261026", AtEnd.DETACH)
    assert plan(rule, table(*days(rule, -4, 3), retired=(old,)), NOW).clean


def test_an_open_end_covers_everything():
    """MAXVALUE is a partition without an end: nothing is due, and it is told."""
    rule = policy()
    found = plan(rule, table(partition(rule, TODAY - DAY, END)), NOW)
    assert found.steps == ()
    assert found.ahead == rule.premake
    assert [it.kind for it in found.findings] == ["open-end"]


def test_steps_say_what_they_lock():
    """And how they are taken back."""
    rule = policy(retention="5 days", at_end="drop")
    rows = [it.as_row() for it in plan(rule, table(*days(rule, -9, 1)), NOW).steps]
    assert {row["step"] for row in rows} == {"create", "detach", "drop"}
    assert "holds up no reader and no writer" in rows[0]["lock"]
    assert rows[-1]["reversal"] == "none: its rows are gone"


@pytest.mark.parametrize("span", ["1 hour", "1 week", "1 month", "1 year"])
def test_the_plan_of_a_new_set_is_the_grid(span):
    """Contiguous, in order, of one length."""
    rule = Policy("at", Span.parse(span))
    steps = plan(rule, table(), NOW).steps
    assert all(a.end == b.start for a, b in pairwise(steps))
    assert len(steps) == rule.premake + 2
