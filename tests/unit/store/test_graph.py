"""Graphs before they are stored: cycles are named, dangling edges refused, arrays complete."""

from __future__ import annotations

import math
from datetime import datetime
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry import InvalidInput, tasks
from tenantry.errors import InvalidGraph
from tenantry_schema.store import checks
from tenantry_schema.store.columns import task_columns
from tenantry_schema.store.graph import check_graph, find_cycle

PAIRS = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=40)


@given(PAIRS)
def test_a_cycle_is_found_exactly_when_there_is_one(edges):
    """Compared with walking from every node; what is named is a cycle."""
    needs = {}
    for who, what in edges:
        needs.setdefault(who, set()).add(what)

    def comes_back(start):
        seen, left = set(), list(needs.get(start, ()))
        while left:
            here = left.pop()
            if here == start:
                return True
            if here not in seen:
                seen.add(here)
                left.extend(needs.get(here, ()))
        return False

    cycle = find_cycle(edges)
    assert bool(cycle) == any(comes_back(it) for it in needs)
    assert len(set(cycle)) == len(cycle)
    for who, what in zip(cycle, [*cycle[1:], *cycle[:1]], strict=True):
        assert what in needs[who]


def test_a_long_chain_needs_no_recursion():
    """A hundred thousand tasks in a row, and the same closed to a circle."""
    chain = [(it + 1, it) for it in range(100_000)]
    assert find_cycle(chain) == []
    assert len(find_cycle([*chain, (0, 100_000)])) == 100_001


def test_the_message_names_the_cycle():
    """By kind and id, in the order in which they need each other."""
    a, b, c = (tasks.NewTask(it) for it in ("fetch", "parse", "index"))
    edges = [tasks.Edge(b.id, a.id), tasks.Edge(c.id, b.id), tasks.Edge(a.id, c.id)]
    with pytest.raises(InvalidGraph, match=r"circle of 3: .*fetch \(") as error:
        tasks.submit(uuid4(), [a, b, c], edges)
    assert all(f"{it.kind} ({it.id})" in str(error.value) for it in (a, b, c))


def test_dangling_and_doubled_edges_and_tasks_are_refused():
    """Each with the id that is wrong."""
    a, b = tasks.NewTask("a"), tasks.NewTask("b")
    stranger = uuid4()
    for given_tasks, edges, reason in [
        ([a], [tasks.Edge(a.id, stranger)], f"{stranger}, which is not in the graph"),
        ([a], [tasks.Edge(stranger, a.id)], f"{stranger}, which is not in the graph"),
        ([a, a], [], f"{a.id} is in the graph twice"),
        ([a, b], [tasks.Edge(b.id, a.id)] * 2, "twice"),
        ([a], [tasks.Edge(a.id, a.id)], "circle of 1"),
        ([], [], "1 to 1,000,000 tasks"),
    ]:
        with pytest.raises(InvalidGraph, match=reason):
            check_graph(given_tasks, edges)
    with pytest.raises(InvalidInput, match="on_failure="):
        check_graph([a, b], [tasks.Edge(b.id, a.id, "shrug")])


def test_it_is_counted_how_many_others_each_task_needs():
    """Whatever is to become of it when they fail."""
    a, b, c = (tasks.NewTask(it) for it in "abc")
    edges = [tasks.Edge(c.id, a.id), tasks.Edge(c.id, b.id, "ignore"), tasks.Edge(b.id, a.id)]
    assert check_graph([a, b, c], edges) == [0, 1, 2]


def test_what_tasks_have_in_common_is_sent_once():
    """One column per argument, one entry per task; a shape for each that differs."""
    given = [tasks.NewTask(it, {"n": it}, delay=2) for it in "aab"]
    columns = task_columns(list(zip(given, [0, 0, 2], strict=True)))
    assert columns["unmet"] == [0, 0, 2]
    assert columns["payloads"] == ['{"n":"a"}', '{"n":"a"}', '{"n":"b"}']
    assert columns["shapes"] == [1, 1, 2]
    assert (columns["kinds"], columns["delays"]) == (["a", "b"], [2.0, 2.0])
    assert columns["keys"] is None
    keyed = [*given, tasks.NewTask("b", delay=2, key="k")]
    columns = task_columns([(task, 0) for task in keyed])
    assert (columns["keys"], columns["shapes"]) == ([None, None, None, "k"], [1, 1, 2, 2])


def test_what_only_equals_a_shape_is_checked_like_one():
    """True has the hash of 1, which was checked."""
    with pytest.raises(InvalidInput, match=r"priority=.*True"):
        task_columns([(tasks.NewTask("k", priority=it), 0) for it in (1, True)])


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"kind": ""}, "kind="),
        ({"kind": "x" * 201}, "1 to 200"),
        ({"kind": "a\0b"}, "NUL"),
        ({"kind": 3}, "kind="),
        ({"kind": ["k"]}, "kind="),
        ({"queue": "*"}, "one queue"),
        ({"queue": "q" * 64}, "1 to 63"),
        ({"priority": -1}, "from 0 to 9, not -1"),
        ({"priority": 10}, "priority="),
        ({"priority": True}, "priority="),
        ({"payload": []}, "a dict"),
        ({"payload": {1: 2}}, "text keys"),
        ({"payload": {"n": math.nan}}, "JSON"),
        ({"payload": {"t": "\0"}}, "NUL"),
        ({"payload": {"t": "\ud800"}}, "JSON"),
        ({"payload": {"t": object()}}, "JSON"),
        ({"payload": {"t": "x" * 262_144}}, "at most 262,144"),
        ({"delay": -1}, "delay="),
        ({"delay": math.inf}, "delay="),
        ({"delay": math.nan}, "delay="),
        ({"delay": True}, "delay="),
        ({"run_after": datetime(2026, 1, 1)}, "time zone"),  # noqa: DTZ001
        ({"deadline": "soon"}, "time zone"),
        ({"key": ""}, "key="),
        ({"agent": "me"}, "agent="),
        ({"id": "1"}, "id="),
        ({"retry": 3}, "a Retry"),
    ],
)
def test_a_task_that_cannot_be_stored_is_refused(wrong, reason):
    """Before anything is sent, with the value."""
    with pytest.raises(InvalidInput, match=reason):
        tasks.submit(uuid4(), [tasks.NewTask(**{"kind": "k", **wrong})])


def test_the_text_of_a_nul_is_no_nul():
    """A backslash and a u are letters."""
    assert checks.document("x", "\\u0000") == '"\\\\u0000"'
    for bad in ("\0", "\\\0", "a\0\\u0000"):
        with pytest.raises(InvalidInput, match="NUL"):
            checks.document("x", bad)
