"""What both doors share: settings, the held map, its routes, what a call is and who served it."""

from __future__ import annotations

import time
from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING, Any

from tenantry.call import Call
from tenantry.conninfo import primary_conninfo
from tenantry.counts import ReadCounts
from tenantry.errors import (
    AlreadyDone,
    InvalidInput,
    InvalidKey,
    InvalidToken,
    ReadInterrupted,
    RouterClosed,
    ShardUnavailable,
    TooStale,
)
from tenantry.follow import MapFollower
from tenantry.keys import parse_key
from tenantry.pools import PoolTable
from tenantry.reads import AtLeast, declared
from tenantry.replicas.plan import OnReplica, Wish, position_needed, read_plan
from tenantry.replicas.sampler import Sampler
from tenantry.route import Route, Routes, agent_uuid
from tenantry.settings import settings_from
from tenantry.tokens import parse_lsn
from tenantry.watchdog import Watchdog
from tenantry_schema.query import each
from tenantry_schema.store.due import due

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from tenantry.errors import OutcomeUnknown
    from tenantry.keys import TenantKey
    from tenantry.map import Map, Node, Placement, Shard
    from tenantry.receipt import Receipt
    from tenantry.replicas.plan import Chosen, Plan
    from tenantry.replicas.view import ReplicaState
    from tenantry.replicas.watch import ShardWatch
    from tenantry.truth import Answers, Truthful
    from tenantry_schema.query import Row, WorkFactory

_LONGEST_AGENT = _LONGEST_OPERATION = 200
_KEPT_AGENTS = 16_384


class RouterCore:
    """The state of a router; the doors add the I/O of their colour."""

    def __init__(self, catalog: str | None, options: dict[str, Any]) -> None:
        self.settings = settings_from(catalog, options)
        self._follower = MapFollower(self.settings)
        self._sampler = Sampler(self.settings, self._follower.given)
        self._pools = PoolTable(self.settings, self._follower.given, self._sampler)
        self._watchdog = Watchdog()
        self._routes: Routes | None = None
        self._agents: dict[str, TenantKey] = {}
        self._counts = ReadCounts()
        self._open = False

    @property
    def map(self) -> Map:
        """The map that is held now: immutable, replaced when the catalog's changes."""
        self._check_open()
        return self._follower.current

    def where(
        self, *, tenant: TenantKey | None = None, agent: UUID | str | None = None
    ) -> Placement:
        """Say where a tenant or an agent lives by the held map; nothing is asked of a server.

        :raises InvalidInput: unless exactly one of the two is given, and well formed
        """
        return self._route(tenant, agent).placement

    def stats(self) -> dict[str, dict[str, Any]]:
        """Return counters of every open pool, of reads by policy and outcome; the shards' states.

        ``{"pools": {name: …}, "reads": {policy: {outcome: count}}, "shards": {name: …}}``
        """
        now = time.monotonic()
        served = self._pools.all()
        return {
            "pools": {it.place.name: it.stats() for it in served},
            "reads": self._counts.all(),
            "shards": {
                it.place.shard.name: it.place.watch.summary(now)
                for it in served
                if it.place.node is None
            },
        }

    def _undescribed(self) -> dict[str, Exception]:
        """Return the shards that a scatter cannot ask: their rows must not be missing unnoticed."""
        of = self.map
        return {f"shard {it}": of.unknown_shard(it, "buckets") for it in of.undescribed}

    def _check_open(self) -> None:
        if not self._open:
            raise RouterClosed("the router is not open: use `with Router(...) as router:`")

    def _current_routes(self) -> Routes:
        self._check_open()
        current = self._follower.current
        routes = self._routes
        if routes is None or routes.map is not current:
            routes = self._routes = Routes(current)
        return routes

    def _route(self, tenant: TenantKey | None, agent: UUID | str | None) -> Route:
        if (tenant is None) == (agent is None):
            raise InvalidInput("give exactly one of tenant= and agent=")
        routes = self._current_routes()
        if tenant is not None:
            return routes.of_tenant(tenant)
        return routes.of_agent(agent_uuid(agent))

    def _call(  # noqa: PLR0913  everything that a caller may say
        self,
        tenant: TenantKey | None,
        agent: UUID | str | None,
        read: object,
        deadline: float | None,
        *,
        token: bool = False,
        operation: str | None = None,
        receipt: Receipt | None = None,
    ) -> Call:
        route = self._route(tenant, agent)
        call = Call(route, self._follower.current, self._bound(deadline), self._watchdog)
        if read is not None:
            call.read = declared(read)
        if operation is not None:
            call.operation = _checked_operation(operation)
        call.token = token
        if call.read is not None and (token or operation is not None):
            raise InvalidInput(
                "token= and operation= are for writes, which go to the primary: leave read= out"
            )
        if receipt is not None:
            receipt.map_version = call.of.version
            call.receipt = receipt
        return call

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

    def _tenant_of(self, error: OutcomeUnknown) -> TenantKey | None:
        """Return whose COMMIT it was, or None where its shard cannot be asked again."""
        self._check_open()
        if error.tenant is None:
            return None
        key = parse_key(error.tenant, self.map.key_type)
        here = error.operation is not None or self.map.of_tenant(key).shard == error.shard
        return key if here else None

    def _known_agent(self, agent: str) -> TenantKey | None:
        self._check_open()
        given: object = agent
        if not isinstance(given, str) or not 1 <= len(given) <= _LONGEST_AGENT or "\0" in given:
            raise InvalidKey(
                f"an agent's id in the directory is text of 1 to {_LONGEST_AGENT} characters "
                f"without NUL, not {given!r:.60}"
            )
        return self._agents.get(agent)

    def _keep_agent(self, agent: str, tenant: TenantKey) -> TenantKey:
        if len(self._agents) >= _KEPT_AGENTS:
            self._agents.clear()
        self._agents[agent] = tenant
        return tenant

    def direct(self, shard: Shard) -> str:
        """Return the conninfo of a shard's primary for a connection of one's own, past the pool.

        :raises InvalidConfig: when the catalog names no node of it
        """
        return primary_conninfo(self._follower.given, shard.nodes, self.settings.application)

    def _sweep_works(self, queues: Sequence[str]) -> dict[int, WorkFactory[list[Row]]]:
        """Return for every shard what asks its buckets which tenants have something to do."""
        schemas: dict[int, list[str]] = defaultdict(list)
        for placement in self.map.placements():
            schemas[placement.shard].append(placement.schema)
        return {shard: partial(each, due(names, queues)) for shard, names in schemas.items()}

    def _bound(self, deadline: float | None) -> float:
        return self.settings.deadline if deadline is None else _checked(deadline)


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


def _checked(deadline: float) -> float:
    given: object = deadline
    usable = isinstance(given, int | float) and not isinstance(given, bool)
    if not usable or not 0 < deadline < float("inf"):
        raise InvalidInput(f"deadline= takes seconds above 0, not {deadline!r:.60}")
    return float(deadline)


def _checked_operation(operation: str) -> str:
    given: object = operation
    if not isinstance(given, str) or not 1 <= len(given) <= _LONGEST_OPERATION or "\0" in given:
        raise InvalidInput(
            f"operation= takes text of 1 to {_LONGEST_OPERATION} characters without NUL, not "
            f"{given!r:.60}"
        )
    return operation
