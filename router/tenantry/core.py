"""What both doors share: settings, the held map, its routes, what a call is and who served it."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from tenantry.call import Call
from tenantry.conninfo import primary_conninfo
from tenantry.counts import ReadCounts
from tenantry.errors import (
    InvalidInput,
    InvalidKey,
    RouterClosed,
)
from tenantry.follow import MapFollower
from tenantry.keys import parse_key
from tenantry.pools import PoolTable
from tenantry.reads import declared
from tenantry.replicas.lookout import Lookout
from tenantry.route import Route, Routes, agent_uuid
from tenantry.settings import settings_from
from tenantry.watchdog import Watchdog
from tenantry_schema.query import each
from tenantry_schema.store.due import due

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from tenantry.errors import OutcomeUnknown
    from tenantry.keys import TenantKey
    from tenantry.map import Map, Placement, Shard
    from tenantry.receipt import Receipt
    from tenantry_schema.query import Row, WorkFactory

_LONGEST_AGENT = _LONGEST_OPERATION = 200
_KEPT_AGENTS = 16_384


class RouterCore:
    """The state of a router; the doors add the I/O of their colour."""

    def __init__(self, catalog: str | None, options: dict[str, Any]) -> None:
        self.settings = settings_from(catalog, options)
        self._compose()
        _routers.add(self)

    def _compose(self) -> None:
        """Make what the router works with; nothing is started yet."""
        self._watchdog = Watchdog()
        self._follower = MapFollower(self.settings, self._watchdog)
        given = self._follower.given
        self._lookout = Lookout(self.settings, given)
        self._pools = PoolTable(self.settings, given, self._lookout, self._watchdog)
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

    def _begin(self) -> None:
        """Start what goes on beside the calls; the watchdog first, because the others need it."""
        self._watchdog.start()
        try:
            self._follower.start()
        except BaseException:
            self._watchdog.stop()
            raise
        self._lookout.start()
        self._open = True

    def _check_open(self) -> None:
        if not self._open:
            raise RouterClosed(
                "the router is not open: use `with Router(...) as router:`, and open it anew in a "
                "process that was forked"
            )

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


_routers: WeakSet[RouterCore] = WeakSet()
#: What a fork inherited: were it collected, connections that the parent uses would be ended.
_inherited: list[Any] = []


def _close_inherited() -> None:
    """Close the routers of a fork: their threads are not there, their connections the parent's."""
    for router in _routers:
        _inherited.append(vars(router).copy())
        router._compose()  # noqa: SLF001  the same module's


os.register_at_fork(after_in_child=_close_inherited)


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
