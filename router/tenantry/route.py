"""From what a caller names to what opens its transaction.

A :class:`Route` is a value: which bucket, on which shard, by which prelude. The routes of one map
are kept in a bounded table, so a warm call finds its bytes ready; a new map starts a new table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from tenantry.errors import InvalidKey
from tenantry.keys import key_text, normalize, parse_key
from tenantry.prelude import agent_prelude, read_only, tenant_prelude

if TYPE_CHECKING:
    from tenantry.keys import TenantKey
    from tenantry.map import Map, Placement
    from tenantry.prelude import Prelude

_KEPT = 16_384


@dataclass(frozen=True, slots=True)
class Route:
    """Where a call goes, and how it opens its transaction.

    :ivar reading: the prelude of a transaction in which Postgres refuses every write
    :ivar subject: what the caller named, for messages
    :ivar tenant_text: the text of the tenant's key
    :ivar agent: the agent whose tenant the first message finds out, or None
    """

    placement: Placement
    prelude: Prelude
    reading: Prelude
    subject: str
    tenant: TenantKey | None
    tenant_text: str | None
    agent: UUID | None

    @classmethod
    def of_tenant(cls, placement: Placement, key: TenantKey, subject: str | None = None) -> Route:
        """Return the route to a tenant whose key is known."""
        text = key_text(key)
        prelude = tenant_prelude(placement.schema, text)
        subject = subject or f"tenant {text}"
        return cls(placement, prelude, read_only(prelude), subject, key, text, None)

    @classmethod
    def of_agent(cls, placement: Placement, agent: UUID) -> Route:
        """Return the route to an agent whose tenant is not known yet."""
        prelude = agent_prelude(placement.schema, agent)
        return cls(placement, prelude, read_only(prelude), f"agent {agent}", None, None, agent)


class Routes:
    """The routes that one map gives."""

    def __init__(self, of: Map) -> None:
        self.map = of
        self._tenants: dict[Any, Route] = {}
        self._agents: dict[UUID, Route] = {}

    def of_tenant(self, tenant: TenantKey) -> Route:
        """Return the route of a tenant.

        :raises InvalidKey: for a key that is not of the fleet's type
        """
        # True == 1 would find the route of tenant 1; the type is part of what was looked up.
        found = self._tenants.get(tenant) if type(tenant) is not bool else None
        if found is not None:
            return found
        key = normalize(tenant, self.map.key_type)
        return _keep(self._tenants, tenant, Route.of_tenant(self.map.of_tenant(key), key))

    def of_agent(self, agent: UUID) -> Route:
        """Return the route of an agent whose id was minted by tenantry."""
        found = self._agents.get(agent)
        if found is not None:
            return found
        return _keep(self._agents, agent, Route.of_agent(self.map.of_agent(agent), agent))

    def learn(self, agent: UUID, tenant_text: str) -> None:
        """Remember an agent's tenant, which never changes: later calls need no look-up."""
        key = parse_key(tenant_text, self.map.key_type)
        route = Route.of_tenant(self.map.of_agent(agent), key, f"agent {agent}")
        _keep(self._agents, agent, route)


def agent_uuid(agent: object) -> UUID:
    """Return an agent's id as a UUID.

    :raises InvalidKey: for anything but a UUID or its canonical text
    """
    if isinstance(agent, UUID):
        return agent
    if isinstance(agent, str) and len(agent) == 36:
        try:
            return UUID(agent)
        except ValueError:
            pass
    raise InvalidKey(
        f"an agent id is a UUID minted by tenantry, or its text, not {_shown(agent)}; an id of "
        "another kind is found through the directory: router.tenant_of_agent(id)"
    )


def _keep(table: dict[Any, Route], key: Any, route: Route) -> Route:
    if len(table) >= _KEPT:
        table.clear()
    table[key] = route
    return route


def _shown(value: object) -> str:
    text = repr(value) if isinstance(value, int | float | UUID | None) else type(value).__name__
    return text[:60]
