"""Which node answers a read that was declared stale: pure decisions, one text for both doors.

The generator yields what it wants done (ask a replica, wait for news of the shard), is sent what
came of it, and returns who answers. A replica is trusted only for what it said itself: on the very
connection that will serve, in the message that opens the transaction; or for an age, which only
shrinks while replay goes on, to the sampler since that connection is there. (A server that was
restarted may show an earlier position than before, but no connection outlives a restart.)
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

from tenantry.errors import InvalidToken, TokenLost, TooStale
from tenantry.reads import AtLeast, Stale
from tenantry.tokens import Standing, standing

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Sequence

    from tenantry.map import Node
    from tenantry.reads import Declared
    from tenantry.replicas.view import ReplicaState, ShardState
    from tenantry.replicas.watch import ShardWatch
    from tenantry.tokens import Line, Token

#: Replicas asked before the caller's other wish is followed: each costs a round trip.
_TRIES = 2
#: Seconds for which one replica may wait for the token itself; another may be faster.
_ONE_WAIT_S = 0.5
#: Seconds to wait for the first news of a shard that was never asked before.
FIRST_NEWS_S = 2.0


class Ask(NamedTuple):
    """Open the transaction on a replica. The answer is sent back: a position, None or an error.

    :ivar said: what it said to the sampler, if that is enough for a connection that was there then
    :ivar timeline: the line of history on which a position counts
    :ivar wait: seconds for which it may wait itself for what is needed, if it knows how to
    """

    node: Node
    said: ReplicaState | None
    timeline: int
    wait: float


class News(NamedTuple):
    """Wait until the sampler has news of the shard, or until a moment on the monotonic clock."""

    until: float


class OnReplica(NamedTuple):
    """The replica that was asked last answers.

    :ivar as_of: the moment that its answer shows in full, or None when none is known
    """

    node: Node
    as_of: float | None
    waited: float


class OnPrimary(NamedTuple):
    """The primary answers, because no replica qualified.

    :ivar timeline: the one on which it must be to answer for a token, or None
    """

    waited: float
    timeline: int | None = None


#: What a replica answered: the position it has replayed, the failure, or None when it is none.
Answer: TypeAlias = "int | Exception | None"
Chosen: TypeAlias = OnReplica | OnPrimary
Plan: TypeAlias = "Generator[Ask | News, Answer, Chosen]"


class Wish(NamedTuple):
    """What a caller declared.

    :ivar until: its deadline on the monotonic clock
    :ivar patience: seconds for which it waits for a primary that is away
    :ivar without: names of replicas that failed it already
    """

    policy: Declared
    until: float
    patience: float
    without: frozenset[str] = frozenset()


class Surroundings(Protocol):
    """What the plan must know beside the shard."""

    @property
    def zone(self) -> str | None:
        """Where this process runs, if it was told."""

    def in_use(self, node: Node) -> int:
        """Return how many connections to a node this process uses now."""


def read_plan(
    wish: Wish, watch: ShardWatch, around: Surroundings, now: Callable[[], float]
) -> Plan:
    """Choose who answers.

    :raises TokenLost: when a failover lost what the token stood for
    :raises InvalidToken: for a token of another fleet
    :raises TooStale: when no replica qualifies and the caller does not want the primary
    """
    began, policy = now(), wish.policy
    if not watch.state.settled:
        yield from _first_news(watch, wish.until, now)
    give_up = min(wish.until, now() + policy.wait.total_seconds())
    near, failed = Wish(policy, give_up, wish.patience), set(wish.without)
    while not _of_an_earlier_line(policy, watch.state):
        found = yield from _tries(near, watch, around, failed, now)
        if found is not None:
            node, as_of = found
            return OnReplica(node, as_of, now() - began)
        if policy.otherwise == "primary":
            break
        if policy.otherwise == "error" or now() >= give_up:
            raise _too_stale(policy, watch, now())
        yield News(give_up)
    if isinstance(policy, Stale):
        return OnPrimary(now() - began)
    yield from _primary_news(watch, min(wish.until, now() + wish.patience), now)
    if watch.state.lineage:
        check_token(policy.token, watch.state.lineage)
    return OnPrimary(now() - began, watch.state.timeline)


def moved_plan(token: Token, former: ShardWatch, until: float, now: Callable[[], float]) -> Plan:
    """Choose who answers for a token of the shard that the bucket has left: its primary now.

    What was written came along, if the token stands for anything.

    :param former: the shard that the token is of
    :param until: the caller's deadline on the monotonic clock
    :raises TokenLost: when a failover lost what the token stood for
    :raises InvalidToken: for a token of another fleet
    """
    began = now()
    yield from _first_news(former, until, now)
    if former.state.lineage:
        check_token(token, former.state.lineage)
    return OnPrimary(now() - began)


def _first_news(
    watch: ShardWatch, until: float, now: Callable[[], float]
) -> Generator[Ask | News, Answer, None]:
    until = min(until, now() + FIRST_NEWS_S)
    while not watch.state.settled and now() < until:
        yield News(until)


def _primary_news(
    watch: ShardWatch, until: float, now: Callable[[], float]
) -> Generator[Ask | News, Answer, None]:
    """Wait for a primary whose line of history is known: a failover may have lost the token."""
    while (watch.state.primary is None or not watch.state.settled) and now() < until:
        yield News(until)


def _of_an_earlier_line(policy: Declared, state: ShardState) -> bool:
    """Say whether a token is of a timeline that was left: then it means the primary."""
    if isinstance(policy, Stale) or not state.lineage:
        return False
    return check_token(policy.token, state.lineage) is Standing.KEPT


def _tries(
    wish: Wish,
    watch: ShardWatch,
    around: Surroundings,
    failed: set[str],
    now: Callable[[], float],
) -> Generator[Ask | News, Answer, tuple[Node, float | None] | None]:
    asked, policy = set(failed), wish.policy
    for _ in range(_TRIES):
        state = watch.state
        patience = wish.until - now() if policy.otherwise == "wait" else 0.0
        needed = position_needed(policy, state, now())
        if needed is None:
            return None
        found = choose(_candidates(policy, watch, needed, asked, now()), around)
        if found is None:
            return None
        node = found.node
        # One that failed before must answer for itself.
        known = isinstance(policy, Stale) and not watch.failed_last(node.name)
        said = found if known else None
        answer = yield Ask(node, said, state.timeline, max(0.0, min(patience, _ONE_WAIT_S)))
        if isinstance(answer, int) and answer >= needed:
            watch.served(node.name)
            return node, state.trail.as_of(answer)
        asked.add(node.name)
        if isinstance(answer, Exception):
            failed.add(node.name)
            watch.set_aside(node.name)
    return None


def position_needed(policy: Declared, state: ShardState, now: float) -> int | None:
    """Return what a replica must have replayed, or None when no replica can prove enough now.

    :raises TokenLost: when a failover lost what the token stood for
    :raises InvalidToken: for a token of another fleet
    """
    if isinstance(policy, Stale):
        return state.trail.needed(now - policy.max_lag.total_seconds())
    if not state.lineage:
        return None
    check_token(policy.token, state.lineage)
    return policy.token.lsn


def check_token(token: Token, lineage: Sequence[Line]) -> Standing:
    """Say what a token stands for, and refuse one that stands for nothing in the shard's history.

    :param lineage: of the shard, at least one line

    :raises TokenLost: when a failover lost what it stood for
    :raises InvalidToken: when it is of another fleet
    """
    found = standing(token, lineage)
    if found is Standing.FOREIGN:
        raise InvalidToken(
            f"the token is of cluster {token.system}, which is not this shard's: it was given by "
            "another fleet"
        )
    if found is Standing.LOST:
        raise TokenLost(
            f"the token stands for a write on timeline {token.timeline}, and nothing confirms that "
            f"timeline {lineage[-1].timeline} contains it: a failover lost it, or nobody saw where "
            "the former timeline ended; look on the primary whether the write is there"
        )
    return found


def choose(candidates: Sequence[ReplicaState], around: Surroundings) -> ReplicaState | None:
    """Take the less used of two replicas drawn by chance, those of our own zone first.

    Source: Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing" (2001).
    """
    if around.zone is not None:
        candidates = [it for it in candidates if it.node.zone == around.zone] or candidates
    if len(candidates) < 2:
        return candidates[0] if candidates else None
    one, other = random.sample(candidates, 2)
    return one if around.in_use(one.node) <= around.in_use(other.node) else other


def _candidates(
    policy: Declared, watch: ShardWatch, needed: int, asked: Collection[str], now: float
) -> list[ReplicaState]:
    usable = [
        it
        for it in watch.state.replicas
        if it.node.name not in asked and not watch.is_aside(it.node.name, now)
    ]
    ready = [it for it in usable if it.position >= needed]
    if ready or isinstance(policy, Stale):
        return ready
    # The samples are older than the token: the replica itself may know better by now.
    return usable


def _too_stale(policy: Declared, watch: ShardWatch, now: float) -> TooStale:
    wanted = "the token" if isinstance(policy, AtLeast) else f"{policy.max_lag} of age"
    known = [
        f"{it.node.name}: {_age(watch.state.trail.as_of(it.position), now)}"
        for it in watch.state.replicas
    ]
    known += [f"{name}: {why}" for name, why in watch.state.refused.items()]
    return TooStale(
        f"no replica of shard {watch.shard.name!r} can promise {wanted} "
        f"({'; '.join(known) or 'it has none'}): accept more age, wait longer, or allow the "
        'primary with otherwise="primary"'
    )


def _age(as_of: float | None, now: float) -> str:
    return "of unknown age" if as_of is None else f"{(now - as_of) * 1000:.0f} ms old at most"
