"""Agents of a tenant: ``router.run(agents.register(acme, name="scout"), tenant=acme)``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tenantry.errors import InvalidKey
from tenantry.ids import mint_agent_id, parse_agent_id
from tenantry.keys import position
from tenantry_schema.store import agents as store
from tenantry_schema.store.agents import Agent, get, page, retire, update
from tenantry_schema.store.checks import uuid

if TYPE_CHECKING:
    from uuid import UUID

    from tenantry_schema.query import WorkFactory

#: The version of UUIDs that lead to a bucket.
_MINTED = 8

__all__ = ["Agent", "get", "page", "register", "retire", "update"]


def register(
    tenant: UUID,
    *,
    name: str,
    kind: str = "agent",
    metadata: dict[str, Any] | None = None,
    id: UUID | None = None,  # noqa: A002  what it is everywhere else
) -> WorkFactory[Agent]:
    """Register an agent; registering it again with the same name and kind gives what is stored.

    :param id: default a new one, by which the agent's calls are routed
    :raises AlreadyExists: when the id belongs to an agent of another name or kind
    :raises InvalidKey: for an id that was minted for another tenant
    """
    agent = mint_agent_id(uuid("tenant", tenant)) if id is None else _own(tenant, uuid("id", id))
    return store.register(tenant, agent, name=name, kind=kind, metadata=metadata)


def _own(tenant: UUID, agent: UUID) -> UUID:
    """Return an id that leads to the tenant's bucket, or that the directory has to know."""
    if agent.version == _MINTED and parse_agent_id(agent).position != position(tenant):
        raise InvalidKey(
            f"agent id {agent} was minted for another tenant than {tenant}: its calls would go to "
            "that one's bucket; mint an id for this tenant"
        )
    return agent
