"""Who takes writes and who may answer, from what the nodes of a shard said."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from tenantry.map import Node, Shard
from tenantry.replicas.view import Identity, Sample, ShardView
from tenantry.tokens import Line

NODES = tuple(Node(name, "h", 1, "d") for name in "abc")
SHARD = Shard(1, "s1", NODES)


def view(**identities):
    made = ShardView(SHARD)
    for node in NODES:
        made.identified(node.name, identities.get(node.name, who()))
    return made


def who(system=7, started="monday", home=SHARD.home):
    return Identity(system, started, home)


def primary(timeline=1, position=1000, *, sent=1.0, read_only=False, certified=1):
    return Sample(sent, False, read_only, position, timeline, certified)


def replica(position=1000, *, certified=1):
    return Sample(1.0, True, True, position, None, certified)


def test_a_primary_and_its_replicas():
    """Settled when every node was heard and the lineage is known."""
    seen = view()
    seen.noted("a", primary())
    seen.noted("b", replica(900))
    assert not seen.state().settled
    seen.lost("c", "refused")
    seen.lineage = (Line(7, 1, None),)
    state = seen.state()
    assert state.settled
    assert state.primary.name == "a"
    assert [(it.node.name, it.position) for it in state.replicas] == [("b", 900)]
    assert state.refused == {"c": "refused"}


def test_two_writable_nodes_are_never_chosen_between():
    """Whatever their timelines; it ends when one of them is gone or read-only."""
    seen = view()
    seen.noted("a", primary(1))
    seen.noted("b", primary(2))
    state = seen.state()
    assert state.split
    assert state.primary is None
    assert not state.replicas
    seen.noted("a", primary(1, read_only=True))
    state = seen.state()
    assert state.primary.name == "b"
    assert "read-only primary" in state.refused["a"]


def test_a_deposed_primary_alone_is_no_primary():
    """A timeline never goes back."""
    seen = view()
    seen.noted("b", primary(2))
    assert seen.state().primary.name == "b"
    seen.lost("b", "gone")
    seen.noted("a", primary(1))
    state = seen.state()
    assert state.primary is None
    assert "deposed" in state.refused["a"]


def test_replicas_that_prove_nothing():
    """Another cluster's, and one that has not replayed the beginning of the timeline."""
    seen = view(b=who(8))
    seen.noted("a", primary(2, certified=2))
    seen.noted("b", replica())
    seen.noted("c", replica(10**9, certified=1))
    state = seen.state()
    assert not state.replicas
    assert "another cluster" in state.refused["b"]
    assert "timeline 2" in state.refused["c"]


def test_a_writable_node_of_another_cluster_is_never_the_primary():
    """Not beside the primary, and not when the primary is gone; its timeline deposes nobody."""
    seen = view(b=who(8))
    seen.noted("a", primary(2, certified=2))
    assert seen.state().primary.name == "a"
    seen.noted("b", primary(9, certified=9))
    state = seen.state()
    assert (state.primary.name, state.system, state.timeline) == ("a", 7, 2)
    assert not state.split
    assert "another cluster" in state.refused["b"]
    seen.lost("a", "gone")
    state = seen.state()
    assert (state.primary, state.system, state.writable) == (None, 7, ())
    seen.noted("a", primary(2, certified=2))
    assert seen.state().primary.name == "a"


def test_a_node_of_another_shard_has_no_say():
    """It says so itself, so also a process that has seen no primary yet knows."""
    seen = view(b=who(8, home="other/1"), c=who(7, home=""))
    seen.noted("b", primary(9))
    seen.noted("c", replica())
    state = seen.state()
    assert (state.primary, state.timeline, state.system) == (None, 0, None)
    assert "fleet and shard other/1" in state.refused["b"]
    assert "(none)" in state.refused["c"]


def test_two_clusters_of_one_shard_are_a_split_brain():
    """Nobody has seen which came first, so nothing is guessed."""
    seen = view(b=who(8))
    seen.noted("a", primary())
    seen.noted("b", primary())
    assert seen.state().split


def test_who_certifies_and_from_which_life():
    """A promotion that was watched is certified with its end; one behind a restart is not."""
    seen = view()
    seen.noted("b", replica())
    seen.noted("b", primary(2, certified=1))
    assert seen.uncertified() == ("b", "monday")
    seen.identified("b", who(started="tuesday"))
    assert seen.uncertified() == ("b", None)
    seen.noted("b", primary(2, certified=2))
    assert seen.uncertified() is None


def test_a_new_timeline_starts_a_new_trail():
    """Positions of different timelines are not compared."""
    seen = view()
    seen.noted("a", primary(1, 5000, sent=1.0))
    assert seen.state().trail.as_of(5000) == 1.0
    seen.lost("a", "gone")
    seen.noted("b", primary(2, 4000, sent=2.0))
    assert seen.state().trail.as_of(4500) == 2.0


SAMPLES = st.one_of(
    st.none(),
    st.builds(
        Sample,
        st.floats(0, 10),
        st.booleans(),
        st.booleans(),
        st.integers(1, 100),
        st.integers(1, 3),
        st.integers(1, 3),
    ),
)


@given(st.lists(st.tuples(st.sampled_from("abc"), SAMPLES), max_size=30))
def test_what_always_holds(events):
    """At most one primary, never on a timeline that was left, never a replica without one."""
    seen, newest = view(), 0
    for name, sample in events:
        if sample is None:
            seen.lost(name, "gone")
        else:
            seen.noted(name, sample)
        state = seen.state()
        newest = max([newest, state.timeline])
        assert state.timeline == newest
        if state.primary is not None:
            assert state.writable == (state.primary,)
            assert not state.split
        else:
            assert not state.replicas
        assert all(it.node != state.primary for it in state.replicas)
