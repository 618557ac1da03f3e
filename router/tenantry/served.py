"""Who serves a call, and what its servers answered means: decided without I/O, for both doors."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tenantry.call import Earlier
from tenantry.core import RouterCore
from tenantry.errors import (
    AlreadyDone,
    DeadlineExceeded,
    InvalidToken,
    OutcomeUnknown,
    ReadInterrupted,
    ShardUnavailable,
    TooStale,
)
from tenantry.prelude import Awaited
from tenantry.reads import AtLeast
from tenantry.replicas.plan import (
    OnReplica,
    Wish,
    check_token,
    moved_plan,
    position_needed,
    read_plan,
)
from tenantry.sqlstates import first_line, is_lost
from tenantry.tokens import parse_lines, parse_lsn

if TYPE_CHECKING:
    from tenantry.call import Call
    from tenantry.map import Node, Shard
    from tenantry.opening import Answers
    from tenantry.reads import Declared
    from tenantry.replicas.plan import Ask, Chosen, Plan
    from tenantry.replicas.watch import ShardWatch
    from tenantry.truth import Truthful


class Served(RouterCore):
    """A router that knows how its calls are served; the doors add the I/O of their colour."""

    def _plan(self, call: Call) -> tuple[Plan, ShardWatch]:
        """Return how a declared read finds who answers, and the shard that it is to watch."""
        assert call.read is not None
        shard = self.shard_of(call)
        if isinstance(call.read, AtLeast) and call.read.token.shard != shard.id:
            former = call.of.shards.get(call.read.token.shard)
            if former is None:
                raise InvalidToken(
                    f"the token is of shard {call.read.token.shard}, which this fleet does not have"
                )
            watch = self._lookout.watch(former)
            return moved_plan(call.read.token, watch, call.when, time.monotonic), watch
        watch = self._lookout.watch(shard)
        wish = Wish(call.read, call.when, self.settings.acquire_timeout, call.earlier.without)
        return read_plan(wish, watch, _Around(self, shard), time.monotonic), watch

    def told(self, call: Call, error: BaseException) -> BaseException:
        """Return an error as its caller should get it."""
        explained = call.explain(error) or error
        if isinstance(explained, ReadInterrupted):
            self._counts.add(call.read, "interrupted")
            if call.replica is not None and is_lost(error) and not call.unheard:
                self._lookout.watch(self.shard_of(call)).set_aside(call.replica)
        elif isinstance(explained, DeadlineExceeded) and call.replica and call.unheard:
            self._lookout.watch(self.shard_of(call)).hung(call.replica, call.deadline)
        return explained

    def replica_patience(self, call: Call) -> float:
        """Return how many seconds a replica's connection is waited for: others may be free."""
        assert call.read is not None
        return min(call.remaining, call.read.wait.total_seconds())

    def chosen(self, call: Call, chosen: Chosen) -> None:
        """Take in who answers a declared read."""
        call.receipt.waited_ms = chosen.waited * 1000
        # A later transaction of the same session is opened anew, and asks.
        call.proven = call.awaited = None
        if isinstance(chosen, OnReplica):
            self._counts.add(call.read, "replica")
            _note_replica(call, chosen.as_of)
        else:
            self._counts.add(call.read, "primary")
            call.receipt.fallback = True
            call.line = chosen.timeline

    def opened(self, call: Call, answers: Answers) -> None:
        """Take in what a prelude answered.

        :raises UnknownAgent: when there is no such agent
        :raises InvalidToken: when the token is of a place that the primary has not reached
        :raises TokenLost: when a failover lost what the token stood for
        :raises ShardUnavailable: when that is not known yet
        :raises TooStale: when a replica that served before is too old by now
        """
        if call.route.agent is not None:
            self._learn(call, answers[0][0])
        if call.read is None:
            self._counts.add(None, "primary")
        elif call.replica is not None:
            self._check_again(call, answers)
            return
        elif call.line is not None:
            _check_written(call, call.line, *answers[-1])
        call.receipt.role, call.receipt.bound_ms = "primary", 0.0

    def replica_position(self, call: Call, answers: Answers, line: int) -> int | None:
        """Return what a replica has replayed, or None when it cannot answer this call.

        :param line: the timeline on which its position counts
        """
        before = answers[:-1] if call.proven is None else answers
        if call.route.agent is not None:
            if not before[-1][0]:
                # The agent may be newer than the replica.
                return None
            self._learn(call, before[-1][0])
        if call.proven is not None:
            return call.proven
        recovery, position, timeline = answers[-1]
        counts = recovery == "t" and timeline == str(line)
        return parse_lsn(position) if counts and position else None

    def shard_of(self, call: Call) -> Shard:
        """Return the shard that a call goes to.

        :raises ShardUnavailable: when the catalog names no node of it
        """
        return with_nodes(call.of.shards[call.route.placement.shard])

    def _check_again(self, call: Call, answers: Answers) -> None:
        assert call.read is not None
        watch = self._lookout.watch(self.shard_of(call))
        state = watch.state
        position = self.replica_position(call, answers, state.timeline)
        needed = position_needed(call.read, state, time.monotonic())
        if position is None or needed is None or position < needed:
            raise TooStale(
                f"replica {call.replica} no longer promises what was declared for "
                f"{call.route.subject}: open a new session"
            )
        _note_replica(call, state.trail.as_of(position))

    def _learn(self, call: Call, tenant_text: str) -> None:
        agent = call.route.agent
        if agent is None:
            return
        call.found_tenant(tenant_text)
        call.tenant_text = tenant_text
        routes = self._current_routes()
        if routes.map is call.of:
            routes.learn(agent, tenant_text)


class _Around:
    """What a plan asks of the router."""

    def __init__(self, core: RouterCore, shard: Shard) -> None:
        self.zone = core.settings.zone
        self._pools = core._pools  # noqa: SLF001  the same module's
        self._shard = shard

    def in_use(self, node: Node) -> int:
        """Return how many connections to a node this router uses now."""
        return self._pools.in_use(self._shard, node)


def with_nodes(shard: Shard) -> Shard:
    """Return a shard that has nodes: a pooler would lead to one that nobody watches.

    :raises ShardUnavailable: when the catalog names none
    """
    if not shard.nodes:
        raise ShardUnavailable(f"shard {shard.name!r} has no nodes in the catalog: add one")
    return shard


def again(call: Call, error: Exception) -> Earlier:
    """Return what a failed attempt leaves to the next.

    A replica that said nothing is not left out: its session may have ended long before, and whether
    the server is there is seen when it is connected to anew.
    """
    deadline, without, _ = call.earlier
    if isinstance(error, ReadInterrupted) and call.replica is not None and not call.unheard:
        without |= {call.replica}
    failure = f"{type(error).__name__}, {first_line(error)}"
    if isinstance(error, OutcomeUnknown):
        failure = "its COMMIT was not acknowledged, and was found to be rolled back"
    return Earlier(deadline, without, failure)


def awaited(read: Declared | None, step: Ask, conn: Truthful) -> Awaited | None:
    """Return what a replica is to wait for itself, or None where it cannot or need not."""
    if isinstance(read, AtLeast) and step.wait > 0 and conn.waits_for_lsn:
        return Awaited(read.token.lsn, step.wait)
    return None


def already_done(call: Call) -> AlreadyDone:
    """Return the error that says that an operation was committed, without its result."""
    return AlreadyDone(
        f"operation {call.operation!r:.80} of {call.route.subject} was committed, but its result "
        "was lost on the way: nothing was repeated"
    )


def _note_replica(call: Call, as_of: float | None) -> None:
    call.receipt.role = "replica"
    call.receipt.bound_ms = None if as_of is None else (time.monotonic() - as_of) * 1000


def _check_written(call: Call, line: int, position: str, timeline: str, lines: str) -> None:
    assert isinstance(call.read, AtLeast)
    token, present = call.read.token, int(timeline, 16)
    if present != line:
        # A failover since the token was looked at, or nobody could look.
        history = parse_lines(lines)
        if not history or history[-1].timeline != present:
            raise ShardUnavailable(
                f"the primary of shard {token.shard} is on timeline {present}, and nobody has "
                "written down yet where the former one ended: whether it contains what the token "
                "stands for is known in a moment; try again"
            )
        check_token(token, history)
    if token.lsn > parse_lsn(position):
        raise InvalidToken(
            f"the token stands for a place that shard {token.shard} has not reached: it was "
            "changed on its way, or the primary was restored from an older backup"
        )
