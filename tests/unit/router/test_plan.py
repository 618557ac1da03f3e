"""Which node answers a declared read: the decisions, without a server."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

import hypothesis.strategies as st
import pytest
from hypothesis import given

from tenantry.errors import InvalidInput, InvalidToken, TokenLost, TooStale, UnsupportedRead
from tenantry.map import Node, Shard
from tenantry.reads import AtLeast, Fresh, Stale, declared
from tenantry.replicas.plan import (
    Ask,
    News,
    OnPrimary,
    OnReplica,
    Wish,
    choose,
    moved_plan,
    read_plan,
)
from tenantry.replicas.view import ReplicaState, ShardState
from tenantry.replicas.watch import ShardWatch
from tenantry.tokens import Line, Token

PRIMARY, *REPLICAS = (
    Node(name, "h", 1, "d", zone) for name, zone in zip("pqr", "xyz", strict=True)
)
SHARD = Shard(1, "s1", (PRIMARY, *REPLICAS))
TOKEN = Token(1, 7, 1, 500)


@dataclass
class Around:
    zone: str | None = None
    used: tuple[str, ...] = ()

    def in_use(self, node):
        return self.used.count(node.name)


class Clock:
    def __init__(self, now=100.0):
        self.now = now

    def __call__(self):
        return self.now


def watch(positions, *, asked_at=99.0, position=1000, settled=True, clock=None):
    """A shard whose primary stood at a position one second ago."""
    made = ShardWatch(SHARD, lambda: None, clock or Clock())
    state = ShardState(
        primary=PRIMARY,
        system=7,
        writable=(PRIMARY,),
        timeline=1,
        replicas=tuple(
            ReplicaState(node, at, asked_at) for node, at in zip(REPLICAS, positions, strict=False)
        ),
        lineage=(Line(7, 1, None),),
        settled=settled,
    )
    state.trail.note(asked_at, position)
    made.publish(state)
    return made


def drive(policy, on, answers, *, clock=None, without=(), news=lambda: None):
    """Drive a plan: answers by node name; return what it chose and whom it asked."""
    clock = clock or Clock()
    wish = Wish(policy, clock.now + 30, 10, frozenset(without))
    return follow(read_plan(wish, on, Around(), clock), answers, clock, news)


def follow(plan, answers, clock, news=lambda: None):
    asked, answer = [], None
    try:
        while True:
            step = plan.send(answer)
            answer = None
            if isinstance(step, Ask):
                assert step.timeline == 1
                asked.append(step.node.name)
                answer = answers[step.node.name]
            else:
                assert isinstance(step, News)
                clock.now = min(step.until, clock.now + 0.1)
                news()
    except StopIteration as stop:
        return stop.value, asked


def test_a_replica_that_is_fresh_enough_answers():
    """Its own word counts, and gives the bound."""
    chosen, asked = drive(Stale(seconds=2), watch([1000]), {"q": 1000})
    assert isinstance(chosen, OnReplica)
    assert (chosen.node.name, chosen.as_of, asked) == ("q", 99.0, ["q"])


@pytest.mark.parametrize("positions", [[], [999]])
def test_the_primary_answers_when_none_qualifies(positions):
    """No replica, or one that is behind: nobody is asked in vain."""
    chosen, asked = drive(Stale(seconds=2), watch(positions), {})
    assert isinstance(chosen, OnPrimary)
    assert asked == []


def test_a_primary_that_was_not_asked_since_proves_nothing():
    """A bound that is shorter than the time since the last sample cannot be promised."""
    chosen, asked = drive(Stale(seconds=0.5), watch([10**6]), {})
    assert isinstance(chosen, OnPrimary)
    assert asked == []


def test_the_node_has_the_last_word():
    """A sample said yes, the node says no: another one is asked, then the primary answers."""
    chosen, asked = drive(Stale(seconds=2), watch([1000, 1000]), {"q": 10, "r": None})
    assert isinstance(chosen, OnPrimary)
    assert sorted(asked) == ["q", "r"]


def test_a_replica_that_fails_is_set_aside():
    """The next caller does not try it, and takes it back when it has answered."""
    on = watch([1000])
    for expected in (["q"], []):
        chosen, asked = drive(Stale(seconds=2), on, {"q": OSError("down")})
        assert isinstance(chosen, OnPrimary)
        assert asked == expected
    on.served("q")
    chosen, asked = drive(Stale(seconds=2), on, {"q": 1000})
    assert isinstance(chosen, OnReplica)


def test_a_replica_that_goes_on_failing_is_tried_less_and_less():
    """Each pause is about twice the one before, up to half a minute; an answer ends it."""
    clock, pauses = Clock(), []
    on = watch([1000], clock=clock)
    for _ in range(12):
        drive(Stale(seconds=3000), on, {"q": OSError("down")}, clock=clock)
        began = clock.now
        while on.is_aside("q", clock.now):
            clock.now += 0.05
        pauses.append(clock.now - began)
    expected = [min(0.25 * 2**number, 30) for number in range(12)]
    for pause, middle in zip(pauses, expected, strict=True):
        assert 0.75 * middle <= pause <= 1.25 * middle + 0.051
    chosen, _ = drive(Stale(seconds=3000), on, {"q": 1000}, clock=clock)
    assert isinstance(chosen, OnReplica)
    drive(Stale(seconds=3000), on, {"q": OSError("down")}, clock=clock)
    assert not on.is_aside("q", clock.now + 0.32), "the count begins anew"


def test_a_deadline_that_left_no_time_blames_nobody():
    """A caller with a millisecond does not take a replica from the others."""
    on = watch([1000])
    on.hung("q", 0.001)
    assert not on.is_aside("q", 100.0)
    on.hung("q", 0.3)
    assert on.is_aside("q", 100.0)


def test_who_failed_this_caller_is_left_out():
    """After a recovery conflict the read goes elsewhere."""
    chosen, _ = drive(Stale(seconds=2), watch([1000, 1000]), {"r": 1000}, without={"q"})
    assert chosen.node.name == "r"


def test_a_token_asks_a_replica_that_may_know_better_by_now():
    """Samples are older than a token that was just given."""
    on = watch([400])
    chosen, _ = drive(AtLeast(TOKEN), on, {"q": 500})
    assert isinstance(chosen, OnReplica)
    chosen, _ = drive(AtLeast(TOKEN), on, {"q": 499})
    assert isinstance(chosen, OnPrimary)


def test_a_replica_may_wait_itself():
    """As long as its caller would, and no longer than another would be asked."""

    def asked_first(policy):
        plan = read_plan(Wish(policy, 130.0, 10), watch([400]), Around(), Clock())
        return next(plan).wait

    assert asked_first(AtLeast(TOKEN)) == 0
    assert asked_first(AtLeast(TOKEN, otherwise="error")) == 0
    assert asked_first(AtLeast(TOKEN, otherwise="wait")) == 0.5
    soon = AtLeast(TOKEN, otherwise="wait", wait=timedelta(milliseconds=20))
    assert asked_first(soon) == pytest.approx(0.02)


def test_waiting_ends_with_a_replica_or_an_error():
    """``wait`` asks again at every news; its bound ends it."""
    answers = {"q": 400}
    clock = Clock()
    chosen, asked = drive(
        AtLeast(TOKEN, otherwise="wait"),
        watch([400]),
        answers,
        clock=clock,
        news=lambda: answers.update(q=400 if clock.now < 100.5 else 600),
    )
    assert isinstance(chosen, OnReplica)
    assert len(asked) > 3
    assert chosen.waited >= 0.4
    with pytest.raises(TooStale, match="can promise the token"):
        drive(AtLeast(TOKEN, otherwise="wait"), watch([400]), {"q": 400})


def test_an_error_says_how_old_each_is():
    """What the operator needs to know."""
    with pytest.raises(TooStale, match="q: 1000 ms old at most"):
        drive(Stale(seconds=0.5, otherwise="error"), watch([1000]), {})


def test_tokens_that_stand_for_nothing():
    """Lost by a failover, or of another fleet: an error before the primary is meant."""
    on = watch([10**6])
    on.publish(replace(on.state, lineage=(Line(7, 1, None), Line(7, 2, 400)), timeline=2))
    with pytest.raises(TokenLost, match="timeline 1"):
        drive(AtLeast(TOKEN), on, {"q": 10**6})
    with pytest.raises(InvalidToken, match="another fleet"):
        drive(AtLeast(replace(TOKEN, system=8)), on, {"q": 10**6})


@pytest.mark.parametrize("otherwise", ["primary", "wait", "error"])
def test_a_token_of_an_earlier_timeline_means_the_primary(otherwise):
    """It is part of the history; nobody is asked, whatever else was wished."""
    on = watch([10**6])
    on.publish(replace(on.state, lineage=(Line(7, 1, None), Line(7, 2, 400)), timeline=2))
    chosen, asked = drive(AtLeast(replace(TOKEN, lsn=400), otherwise=otherwise), on, {})
    assert isinstance(chosen, OnPrimary)
    assert (chosen.timeline, asked) == (2, [])


def test_a_token_waits_for_the_primary_that_is_away():
    """The failover that brings another one may have lost what it stands for."""
    on = watch([])
    on.publish(replace(on.state, primary=None, writable=()))

    def promoted():
        lineage = (Line(7, 1, None), Line(7, 2, 400))
        on.publish(replace(on.state, primary=REPLICAS[0], lineage=lineage, timeline=2))

    with pytest.raises(TokenLost, match="timeline 1"):
        drive(AtLeast(TOKEN), on, {}, news=promoted)
    clock = Clock()
    on = watch([])
    on.publish(replace(on.state, primary=None, writable=()))
    chosen, _ = drive(AtLeast(TOKEN), on, {}, clock=clock)
    assert chosen.timeline == 1
    assert clock.now == pytest.approx(110.0), "as long as a connection is waited for"
    chosen, _ = drive(Stale(seconds=0.5), on, {})
    assert chosen.waited == 0.0, "an age is not lost by a failover"


def test_a_token_of_the_shard_that_the_bucket_left():
    """It is judged by the history of the shard that gave it; then it means the primary."""
    clock = Clock()
    former = watch([1000], settled=False)
    settle = lambda: former.publish(replace(former.state, settled=True))  # noqa: E731
    chosen, asked = follow(moved_plan(TOKEN, former, 130.0, clock), {}, clock, settle)
    assert isinstance(chosen, OnPrimary)
    assert (chosen.timeline, asked) == (None, [])
    with pytest.raises(InvalidToken, match="another fleet"):
        follow(moved_plan(replace(TOKEN, system=8), former, 130.0, clock), {}, clock)
    with pytest.raises(TokenLost):
        follow(moved_plan(replace(TOKEN, timeline=3), former, 130.0, clock), {}, clock)


def test_the_first_news_of_a_shard_is_waited_for():
    """A process that has just begun does not send everything to the primary."""
    on = watch([1000], settled=False)
    settle = lambda: on.publish(replace(on.state, settled=True))  # noqa: E731
    chosen, _ = drive(Stale(seconds=2), on, {"q": 1000}, news=settle)
    assert isinstance(chosen, OnReplica)


def test_near_replicas_first_then_the_less_used():
    """Two choices, and a zone."""
    both = [ReplicaState(node, 1, 0.0) for node in REPLICAS]
    assert choose(both, Around(used=("q", "q", "r"))).node.name == "r"
    assert choose(both, Around(zone="y", used=("q",) * 9)).node.name == "q"
    assert choose([], Around()) is None
    assert {choose(both, Around(zone="elsewhere")).node.name for _ in range(60)} == {"q", "r"}


@given(
    st.floats(0.01, 3000),
    st.lists(st.integers(0, 2000), max_size=2),
    st.one_of(st.none(), st.integers(0, 3000)),
    st.floats(90, 100),
)
def test_nobody_answers_who_is_older_than_declared(lag, positions, answer, asked_at):
    """Whatever the samples say, an answer is as of a moment within the bound."""
    clock = Clock()
    on = watch(positions, asked_at=asked_at)
    answers = dict.fromkeys("qr", answer)
    chosen, _ = drive(Stale(seconds=lag), on, answers, clock=clock)
    if isinstance(chosen, OnReplica):
        assert answer >= 1000
        assert clock.now - chosen.as_of <= lag


NO_LAG = [0, -1, float("nan"), float("inf"), 1e9, True, "2", None]


@pytest.mark.parametrize("seconds", NO_LAG)
def test_a_lag_that_cannot_be(seconds):
    """Refused by name, before anything is asked."""
    with pytest.raises(InvalidInput):
        Stale(seconds=seconds)


@pytest.mark.parametrize("given", [timedelta(0), timedelta(seconds=-1), timedelta(days=2), 5])
def test_a_timedelta_that_cannot_be(given):
    """The same for the other way to say it, and for the wait."""
    with pytest.raises(InvalidInput):
        Stale(given)
    with pytest.raises(InvalidInput):
        Stale(seconds=1, wait=given)


def test_policies_are_values():
    """Equal when they say the same; immutable; anything else is no policy."""
    assert Stale(seconds=2) == Stale(timedelta(seconds=2))
    assert hash(AtLeast(TOKEN)) == hash(AtLeast(str(TOKEN)))
    with pytest.raises(AttributeError):
        Stale(seconds=2).otherwise = "error"
    with pytest.raises(InvalidInput, match="otherwise"):
        Stale(seconds=2, otherwise="maybe")
    assert declared(None) is None
    assert declared(Fresh()) is None
    for wrong in ("replica", 2, Stale):
        with pytest.raises(UnsupportedRead):
            declared(wrong)
