"""The planners, cut off after every step, on a model of servers: pure."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry_ops.failover.act import Actor
from tenantry_ops.failover.failing import Wish, plan_failover
from tenantry_ops.failover.loss import Accepted
from tenantry_ops.failover.standing import ShardStanding, Slot, Standing
from tenantry_ops.failover.steps import Do
from tenantry_ops.failover.switching import plan_return, plan_switchover
from tenantry_schema.errors import FailoverRefused, InvalidConfig, UnknownNode

GONE = "connection refused"


def primary(name, **changed):
    told = {"system_identifier": "7", "timeline": 1, "written": 1000, "certified": ((1, None),)}
    return replace(Standing(name, **told), **changed)


def standby(name, **changed):
    told = {"system_identifier": "7", "timeline": 1, "received": 1000, "replayed": 990}
    served = {"connected": True, "streaming": True}
    return replace(Standing(name, in_recovery=True, read_only=True, **served, **told), **changed)


def shard(*nodes, durability="local"):
    return ShardStanding("s1", durability, nodes)


def healthy(standbys=1):
    return shard(primary("a"), *(standby(name) for name in "bcd"[:standbys]))


class World:
    """What servers and clients do when steps are done to them."""

    def __init__(self, found, serving):
        self.nodes = {it.node: it for it in found.nodes}
        self.durability = found.durability
        self.paused = False
        self.serving = serving

    @property
    def shard(self):
        return ShardStanding("s1", self.durability, tuple(self.nodes.values()))

    def writable(self):
        return [it.node for it in self.nodes.values() if it.primary and not it.read_only]

    def change(self, name, **changed):
        self.nodes[name] = replace(self.nodes[name], **changed)

    def do(self, step):
        getattr(self, step.do.name.lower())(step)
        assert len(self.writable()) <= 1, step

    def checkpoint(self, step):
        assert self.nodes[step.node].answers

    def pause(self, _step):
        self.paused = True

    def stop(self, step):
        self.change(step.node, error=GONE, ended=self.nodes[step.node].written)
        self._unfed()

    def fence(self, step):
        self.change(step.node, error=GONE, in_recovery=True, ended=None)
        self._unfed()

    def start(self, step):
        self.change(step.node, error=None, ended=None)

    def close(self, step):
        self.change(step.node, closed=True, read_only=True)

    def open(self, step):
        self.change(step.node, closed=False, read_only=self.nodes[step.node].in_recovery)

    def catch_up(self, step):
        source = self.nodes[step.source]
        end = source.written if source.answers else source.ended
        self.change(step.node, received=end + 1, replayed=end + 1)

    def promote(self, step):
        assert not self.writable(), "beside a primary"
        assert not self.nodes[step.node].closed
        found = self.nodes[step.node]
        self.change(
            step.node,
            in_recovery=False,
            read_only=False,
            connected=False,
            streaming=False,
            timeline=found.timeline + 1,
            written=found.received,
        )
        self._unfed()

    def certify(self, step):
        found = self.nodes[step.node]
        self.change(step.node, certified=(*found.certified, (found.timeline, found.received)))

    def resume(self, step):
        self.paused, self.serving = False, step.node

    def rewire(self, step):
        (head,) = self.writable()
        self.nodes[step.node] = standby(step.node, timeline=self.nodes[head].timeline)

    def _unfed(self):
        for it in list(self.nodes.values()):
            if (
                it.in_recovery
                and it.answers
                and not any(o.primary and o.timeline == it.timeline for o in self.nodes.values())
            ):
                self.change(it.node, connected=False, streaming=False)


def settled(world, head):
    found = world.shard
    others = [it for it in found.nodes if it.node != head]
    return (
        world.writable() == [head]
        and found.node(head).is_certified
        and all(map(found.follows, others))
        and not world.paused
        and world.serving == head
    )


@given(st.integers(1, 3), st.booleans(), st.integers(0, 14), st.integers(0, 14), st.booleans())
def test_a_switchover_cut_off_twice_is_finished(standbys, ours, first, second, closed):
    """Wherever it was killed, and killed again, running it again reaches the same end."""
    found = healthy(standbys)
    world = World(found, "a")
    if closed:
        world.change("b", closed=True)
    mine = frozenset("abcd") if ours else frozenset()

    def plan():
        return plan_switchover(world.shard, "a", "b", ours=mine)

    for cut in (first, second):
        for step in plan()[:cut]:
            world.do(step)
    for step in plan():
        world.do(step)
    assert plan() == ()
    if first or second:
        # What is paused when a process is killed is resumed by the plan that follows.
        assert settled(world, "b") or world.serving == "b"
    assert world.writable() == ["b"]
    assert all(world.shard.follows(it) for it in world.shard.nodes if it.node != "b")


@given(st.integers(0, 6), st.booleans())
def test_before_the_promotion_there_is_a_way_back(cut, ours):
    """The old primary takes writes again, and clients are led to it; afterwards it is refused."""
    world = World(healthy(2), "a")
    mine = frozenset("abc") if ours else frozenset()
    steps = plan_switchover(world.shard, "a", "b", ours=mine)
    for step in steps[:cut]:
        world.do(step)
    if world.nodes["b"].in_recovery:
        silent = replace(world.nodes["b"], error=GONE)
        unsure = shard(*(silent if it.node == "b" else it for it in world.nodes.values()))
        with pytest.raises(FailoverRefused, match="may be promoted"):
            plan_return(unsure, "a", "b")
        assert plan_return(unsure, "a", "b", sure=True)
    if any(step.do is Do.PROMOTE for step in steps[:cut]):
        with pytest.raises(FailoverRefused, match="no way back"):
            plan_return(world.shard, "a", "b")
        return
    for step in plan_return(world.shard, "a", "b"):
        world.do(step)
    assert world.writable() == ["a"]
    assert not world.paused
    assert world.serving == "a"


@given(st.integers(1, 3), st.booleans(), st.integers(0, 9), st.integers(0, 3))
def test_a_failover_cut_off_is_finished(standbys, ours, cut, ahead):
    """The same standby is promoted, and never a second one."""
    world = World(healthy(standbys), "a")
    best = "bcd"[ahead % standbys]
    world.change(best, received=1001)
    world.stop(type("Step", (), {"node": "a"}))
    world.change("a", ended=None)
    mine = frozenset("abcd") if ours else frozenset()
    plan = plan_failover(world.shard, Wish(), ours=mine)
    assert plan.new == best
    for step in plan.steps[:cut]:
        world.do(step)
    for step in plan_failover(world.shard, Wish(to=best), ours=mine).steps:
        world.do(step)
    assert world.writable() == [best]
    assert world.shard.node(best).is_certified
    assert all(world.shard.follows(it) for it in world.shard.standbys)


SWITCHES = [
    (shard(primary("a"), standby("b", error=GONE)), "b does not answer"),
    (shard(primary("a"), standby("b", system_identifier="8")), "of another cluster"),
    (shard(primary("a"), standby("b", streaming=False)), "does not stream"),
    (shard(primary("a", timeline=2), standby("b")), "does not stream"),
    (shard(primary("a", written=10**9), standby("b")), "bytes behind"),
    (shard(primary("a", slots=(Slot("mv_1", True, True, 1),)), standby("b")), "logical slots"),
    (shard(primary("a"), standby("b"), primary("c")), "c is a primary as well"),
    (shard(primary("a", error=GONE), standby("b")), "use failover"),
    (shard(standby("a"), standby("b")), "no primary"),
    (shard(primary("a"), standby("b"), durability="two-nodes"), "no synchronous standby"),
    (shard(primary("a", timeline=3), primary("b", timeline=2)), "b is deposed"),
]


@pytest.mark.parametrize(("found", "why"), SWITCHES)
def test_a_switchover_that_cannot_work_is_refused(found, why):
    """Before anything is done, with the reason."""
    with pytest.raises(FailoverRefused, match=why):
        plan_switchover(found, "a", "b")


def test_every_step_can_be_done():
    """Each has a method of the one that acts."""
    assert all(hasattr(Actor, f"_{it.name.lower()}") for it in Do)


def test_an_unknown_node_is_refused():
    """With the names of those that there are."""
    with pytest.raises(UnknownNode, match="it has a, b"):
        plan_switchover(healthy(), "a", "z")


DEAD = primary("a", error=GONE)
SYNC = 'ANY 1 ("a", "b", "c")'


def failing(*standbys, durability="local", dead=DEAD):
    return shard(dead, *standbys, durability=durability)


FAILS = [
    (healthy(), Wish(), "takes writes: use switchover"),
    (shard(replace(DEAD, alive=True), standby("b")), Wish(), "a .* is there and may serve"),
    (failing(standby("b")), Wish(), "still receives from the primary"),
    (failing(standby("b", error=GONE)), Wish(fenced=True), "no standby answers"),
    (failing(standby("b", error=GONE)), Wish("b", fenced=True), "b does not answer"),
    (
        failing(standby("b"), standby("c", timeline=2, system_identifier="8")),
        Wish("b", fenced=True),
        "b is of another cluster",
    ),
    (failing(standby("b"), durability="two-nodes"), Wish(fenced=True), "may lose .* after 0/3E8"),
    (
        failing(standby("b", synchronous_standby_names=SYNC), standby("c", error=GONE)),
        Wish(fenced=True),
        "none is proven current",
    ),
    (
        failing(standby("b", received=900), standby("c")),
        Wish("b", fenced=True),
        "does not go as far.*100 bytes of WAL at least",
    ),
    (
        failing(standby("b"), durability="two-nodes"),
        Wish(accepted=Accepted(most=10**9), fenced=True),
        "--accept-data-loss 0/3E8",
    ),
    (
        failing(standby("b"), durability="two-nodes"),
        Wish(accepted=Accepted(after=1001), fenced=True),
        "--accept-data-loss 0/3E8",
    ),
]


@pytest.mark.parametrize(("found", "wish", "why"), FAILS)
def test_a_failover_that_may_lose_more_than_was_said_is_refused(found, wish, why):
    """The refusal names what would have to be accepted."""
    with pytest.raises(FailoverRefused, match=why):
        plan_failover(found, wish)


def test_the_accepted_amount_lets_it_pass():
    """An LSN that the standby has; bytes only where somebody knows how many there are."""
    found = failing(standby("b"), durability="two-nodes")
    plan = plan_failover(found, Wish(accepted=Accepted.parse("0/3E8"), fenced=True))
    assert plan.new == "b"
    assert "nobody who answers knows" in str(plan.loss)
    closed = failing(
        standby("b", received=900), durability="two-nodes", dead=primary("a", read_only=True)
    )
    with pytest.raises(FailoverRefused, match="100 bytes of WAL"):
        plan_failover(closed, Wish(accepted=Accepted(most=99)))
    assert plan_failover(closed, Wish(accepted=Accepted(most=100))).loss.known == 100


def test_a_quorum_that_answers_proves_that_nothing_is_lost():
    """Two of two voters, and the one that goes farthest is taken without a word."""
    found = failing(
        standby("b", synchronous_standby_names=SYNC, connected=False, streaming=False),
        standby(
            "c", synchronous_standby_names=SYNC, connected=False, streaming=False, received=1001
        ),
        durability="two-nodes",
    )
    plan = plan_failover(found, Wish())
    assert (plan.new, str(plan.loss)) == ("c", "nothing acknowledged")


def test_a_shard_of_standbys_only_gets_its_primary_back():
    """What a failover that was killed after its fence left behind."""
    found = shard(standby("a", connected=False), standby("b", connected=False, received=1001))
    plan = plan_failover(found, Wish())
    assert plan.new == "b"
    assert plan.loss.covered_by(None)


@pytest.mark.parametrize("given_", ["", "all", "-1", "1.5", "0/", "0/123456789", "G/1", "5 TB"])
def test_an_amount_that_is_none_is_refused(given_):
    """There is no word for everything."""
    with pytest.raises(InvalidConfig):
        Accepted.parse(given_)


@pytest.mark.parametrize(
    ("given_", "most"), [("0", 0), ("4096", 4096), ("16MB", 2**24), ("1 kB", 1024), ("1G", 2**30)]
)
def test_amounts_are_read_as_postgres_writes_them(given_, most):
    """Bytes with a unit or without."""
    assert Accepted.parse(given_) == Accepted(most=most)
