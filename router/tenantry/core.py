"""What both doors share: settings, the held map, its routes, deadlines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tenantry.call import Call
from tenantry.errors import InvalidInput, InvalidKey, RouterClosed, ShardUnavailable
from tenantry.follow import MapFollower
from tenantry.pools import PoolTable
from tenantry.reads import check_read
from tenantry.route import Route, Routes, agent_uuid
from tenantry.settings import settings_from
from tenantry.watchdog import Watchdog

if TYPE_CHECKING:
    from uuid import UUID

    from tenantry.keys import TenantKey
    from tenantry.map import Map, Placement, Shard

_LONGEST_AGENT = 200
_KEPT_AGENTS = 16_384


class RouterCore:
    """The state of a router; the doors add the I/O of their colour."""

    def __init__(self, catalog: str | None, options: dict[str, Any]) -> None:
        self.settings = settings_from(catalog, options)
        self._follower = MapFollower(self.settings)
        self._pools = PoolTable(self.settings, self._follower.given)
        self._watchdog = Watchdog()
        self._routes: Routes | None = None
        self._agents: dict[str, TenantKey] = {}
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

    def _call(
        self,
        tenant: TenantKey | None,
        agent: UUID | str | None,
        read: object,
        deadline: float | None,
    ) -> Call:
        if read is not None:
            check_read(read)
        route = self._route(tenant, agent)
        return Call(route, self._follower.current, self._bound(deadline), self._watchdog)

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

    def _bound(self, deadline: float | None) -> float:
        return self.settings.deadline if deadline is None else _checked(deadline)

    def shard_of(self, call: Call) -> Shard:
        """Return the shard that a call goes to.

        :raises ShardUnavailable: when the catalog names no node of it
        """
        shard = call.of.shards[call.route.placement.shard]
        if not shard.nodes:
            raise ShardUnavailable(f"shard {shard.name!r} has no nodes in the catalog: add one")
        return shard

    def learn(self, call: Call, tenant_text: str | None) -> None:
        """Take in what an agent's prelude answered.

        :raises UnknownAgent: when there is no such agent
        """
        agent = call.route.agent
        if agent is not None and call.found_tenant(tenant_text) is not None and tenant_text:
            routes = self._current_routes()
            if routes.map is call.of:
                routes.learn(agent, tenant_text)


def _checked(deadline: float) -> float:
    given: object = deadline
    usable = isinstance(given, int | float) and not isinstance(given, bool)
    if not usable or not 0 < deadline < float("inf"):
        raise InvalidInput(f"deadline= takes seconds above 0, not {deadline!r:.60}")
    return float(deadline)
