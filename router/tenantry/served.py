"""Who serves a call, and what its servers answered means: decided without I/O, for both doors."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tenantry.core import RouterCore
from tenantry.errors import (
    AlreadyDone,
    InvalidToken,
    ReadInterrupted,
    ShardUnavailable,
    TooStale,
)
from tenantry.reads import AtLeast
from tenantry.replicas.plan import OnReplica, Wish, position_needed, read_plan
from tenantry.tokens import parse_lsn

if TYPE_CHECKING:
    from tenantry.call import Call
    from tenantry.map import Node, Shard
    from tenantry.replicas.plan import Chosen, Plan
    from tenantry.replicas.view import ReplicaState
    from tenantry.replicas.watch import ShardWatch
    from tenantry.truth import Answers, Truthful


class Served(RouterCore):
    """A router that knows how its calls are served; the doors add the I/O of their colour."""

    def _plan(self, call: Call, watch: ShardWatch) -> Plan | None:
        """Return how a declared read finds who answers, or None where only the primary can."""
        assert call.read is not None
        if isinstance(call.read, AtLeast) and call.read.token.shard != watch.shard.id:
            if call.read.token.shard not in call.of.shards:
                raise InvalidToken(
                    f"the token is of shard {call.read.token.shard}, which this fleet does not have"
                )
            # The bucket has moved since: what was written came along.
            return None
        wish = Wish(call.read, call.when, call.without)
        return read_plan(wish, watch, _Around(self, watch.shard), time.monotonic)

    def told(self, call: Call, error: BaseException) -> BaseException:
        """Return an error as its caller should get it."""
        explained = call.explain(error) or error
        if isinstance(explained, ReadInterrupted):
            self._counts.add(call.read, "interrupted")
        return explained

    def replica_patience(self, call: Call) -> float:
        """Return how many seconds a replica's connection is waited for: others may be free."""
        assert call.read is not None
        return min(call.remaining, call.read.wait.total_seconds())

    def chosen(self, call: Call, chosen: Chosen | None) -> None:
        """Take in who answers a declared read; None for the primary without a choice."""
        receipt = call.receipt
        receipt.waited_ms = 0.0 if chosen is None else chosen.waited * 1000
        # A later transaction of the same session is opened anew, and asks.
        call.proven = None
        if call.replica is None:
            receipt.fallback = True
        self._counts.add(call.read, "primary" if call.replica is None else "replica")
        if call.replica is not None:
            _note_replica(call, chosen.as_of if isinstance(chosen, OnReplica) else None)

    def opened(self, call: Call, answers: Answers) -> None:
        """Take in what a prelude answered.

        :raises UnknownAgent: when there is no such agent
        :raises InvalidToken: when the token is of a place that the primary has not reached
        :raises TooStale: when a replica that served before is too old by now
        """
        if call.route.agent is not None:
            self._learn(call, answers[0][0])
        if call.read is None:
            self._counts.add(None, "primary")
        elif call.replica is not None:
            self._check_again(call, answers)
            return
        else:
            _check_written(call, parse_lsn(answers[-1][1]))
        call.receipt.role, call.receipt.bound_ms = "primary", 0.0

    def replica_position(self, call: Call, answers: Answers) -> int | None:
        """Return what a replica has replayed, or None when it cannot answer this call."""
        if call.route.agent is not None:
            if not answers[0][0]:
                # The agent may be newer than the replica.
                return None
            self._learn(call, answers[0][0])
        if call.proven is not None:
            return call.proven
        recovery, position = answers[-1]
        return parse_lsn(position) if recovery == "t" and position else None

    def shard_of(self, call: Call) -> Shard:
        """Return the shard that a call goes to.

        :raises ShardUnavailable: when the catalog names no node of it
        """
        shard = call.of.shards[call.route.placement.shard]
        if not shard.nodes:
            raise ShardUnavailable(f"shard {shard.name!r} has no nodes in the catalog: add one")
        return shard

    def _check_again(self, call: Call, answers: Answers) -> None:
        assert call.read is not None
        watch = self._sampler.watch(self.shard_of(call))
        position = self.replica_position(call, answers)
        needed = position_needed(call.read, watch.state, time.monotonic())
        if position is None or needed is None or position < needed:
            raise TooStale(
                f"replica {call.replica} no longer promises what was declared for "
                f"{call.route.subject}: open a new session"
            )
        _note_replica(call, watch.state.trail.as_of(position))

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


def again(call: Call, error: Exception) -> frozenset[str]:
    """Return the replicas that the next attempt of a call leaves out."""
    if isinstance(error, ReadInterrupted) and call.replica is not None:
        return call.without | {call.replica}
    return call.without


def proven(said: ReplicaState | None, conn: Truthful) -> int | None:
    """Return the position that a replica said to have replayed, if that holds for a connection."""
    if said is None or conn.backend is None or said.sent < conn.since:
        return None
    return said.position


def already_done(call: Call) -> AlreadyDone:
    """Return the error that says that an operation was committed, without its result."""
    return AlreadyDone(
        f"operation {call.operation!r:.80} of {call.route.subject} was committed, but its result "
        "was lost on the way: nothing was repeated"
    )


def _note_replica(call: Call, as_of: float | None) -> None:
    call.receipt.role = "replica"
    call.receipt.bound_ms = None if as_of is None else (time.monotonic() - as_of) * 1000


def _check_written(call: Call, written: int) -> None:
    if isinstance(call.read, AtLeast) and call.read.token.shard == call.route.placement.shard:
        token = call.read.token
        if token.lsn > written:
            raise InvalidToken(
                f"the token stands for a place that shard {token.shard} has not reached: it was "
                "changed on its way, or the primary was restored from an older backup"
            )
