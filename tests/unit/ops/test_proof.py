"""The demo's judge: it passes what is right, and names each thing that is not."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.history import Transition
from tenantry_ops.demo.acyclic import without_circles
from tenantry_ops.demo.graph import Graph
from tenantry_ops.demo.proof import prove
from tenantry_schema.store.graph import find_cycle

ONE, TWO = UUID(int=1), UUID(int=2)
START = datetime(2026, 11, 25, tzinfo=UTC)
#: (second, from, to, fence, owner): a worker died over it.
GOOD = [
    (0, "new", "ready", 0, None),
    (1, "ready", "running", 1, "a"),
    (9, "running", "running", 2, "b"),
    (10, "running", "done", 2, "b"),
]
AFTER = [
    (0, "new", "waiting", 0, None),
    (10, "waiting", "ready", 0, None),
    (11, "ready", "running", 1, "a"),
    (12, "running", "done", 1, "a"),
]


def history(task, rows):
    return [
        Transition(START + timedelta(seconds=at), task, step, fence, before, after, owner, None)
        for step, (at, before, after, fence, owner) in enumerate(rows, start=1)
    ]


def test_a_right_history_is_counted():
    """Claims, take-overs, edges; no faults."""
    proof = prove(history(ONE, GOOD) + history(TWO, AFTER), [(TWO, ONE)])
    assert asdict(proof) == {
        "tasks": 2,
        "done": 2,
        "transitions": 8,
        "claims": 3,
        "taken_over": 1,
        "edges": 1,
        "faults": [],
    }


def changed(row, **to):
    names = ("at", "before", "after", "fence", "owner")
    rows = [dict(zip(names, it, strict=True)) for it in GOOD]
    rows[row] |= to
    return [tuple(it.values()) for it in rows]


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        (GOOD[:-1], "not done exactly once"),
        ([*GOOD, (11, "running", "done", 2, "b")], "not done exactly once"),
        (GOOD[1:], "its beginning is missing"),
        (changed(3, owner="a"), "b held it, and a finished it"),
        (changed(3, fence=1), "fence went from 2 to 1"),
        (changed(2, fence=1), "fence went from 1 to 1"),
        (changed(2, at=0), "overlap"),
        (changed(1, before="waiting"), "it was ready, and then changed from waiting"),
        (changed(1, before="waiting"), "waiting became running"),
    ],
)
def test_each_fault_is_named(rows, fault):
    """One change of a right history is enough."""
    assert any(fault in it for it in prove(history(ONE, rows), []).faults)


def test_an_edge_that_was_not_respected():
    """It ran before what it needs was done; or that was never done."""
    early = [*AFTER[:2], (9, "ready", "running", 1, "a"), (12, "running", "done", 1, "a")]
    assert "ran before" in str(prove(history(ONE, GOOD) + history(TWO, early), [(TWO, ONE)]).faults)
    assert "ran before" in str(prove(history(TWO, AFTER), [(TWO, ONE)]).faults)


@given(st.lists(st.tuples(st.integers(0, 15), st.integers(0, 15)), max_size=60))
def test_circles_are_opened_and_nothing_else_is_lost(pairs):
    """No circle is left; every edge that was taken would close one."""
    graph = Graph.of("test", {str(it): [str(b) for a, b in pairs if a == it] for it in range(16)})
    found = without_circles(graph)
    assert find_cycle(found.edges) == []
    assert found.names == graph.names
    assert set(found.edges) <= set(graph.edges)
    for edge in set(graph.edges) - set(found.edges):
        assert find_cycle([*found.edges, edge])
