"""Agents: register, change with an optimistic version, retire, list page by page."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from tenantry_schema.errors import AlreadyExists, UnknownAgent, VersionChanged
from tenantry_schema.query import Query
from tenantry_schema.store import checks

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from tenantry_schema.query import Work, WorkFactory

_COLUMNS = "tenant_id, id, name, kind, metadata, version, created_at, updated_at, retired_at"
_REGISTER = f"""
INSERT INTO agents (tenant_id, id, name, kind, metadata)
VALUES (%(tenant)s, %(agent)s, %(name)s, %(kind)s, %(metadata)s::jsonb)
ON CONFLICT DO NOTHING
RETURNING {_COLUMNS}
"""
_GET = f"SELECT {_COLUMNS} FROM agents WHERE tenant_id = %(tenant)s AND id = %(agent)s"
_UPDATE = f"""
UPDATE agents
SET name = coalesce(%(name)s, name), metadata = coalesce(%(metadata)s::jsonb, metadata),
    version = version + 1, updated_at = now()
WHERE tenant_id = %(tenant)s AND id = %(agent)s AND version = %(version)s AND retired_at IS NULL
RETURNING {_COLUMNS}
"""
_RETIRE = f"""
UPDATE agents
SET retired_at = coalesce(retired_at, now()), updated_at = now(), version = version + 1
WHERE tenant_id = %(tenant)s AND id = %(agent)s
RETURNING {_COLUMNS}
"""
_LIST = f"""
SELECT {_COLUMNS} FROM agents
WHERE tenant_id = %(tenant)s
    AND id > %(after)s
    AND (%(retired)s OR retired_at IS NULL)
ORDER BY id
LIMIT %(limit)s
"""


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent as it is stored.

    :ivar version: counts the changes; a change names the version that it was made on
    :ivar retired_at: since when it takes no more changes, or None
    """

    tenant: UUID
    id: UUID
    name: str
    kind: str
    metadata: dict[str, Any]
    version: int
    created_at: datetime
    updated_at: datetime
    retired_at: datetime | None


def register(
    tenant: UUID, agent: UUID, *, name: str, kind: str = "agent", metadata: dict[str, Any] | None
) -> WorkFactory[Agent]:
    """Register an agent; registering it again with the same name and kind gives what is stored.

    :raises AlreadyExists: when the id belongs to an agent of another name or kind
    """
    params = {
        "tenant": checks.uuid("tenant", tenant),
        "agent": checks.uuid("id", agent),
        "name": checks.text("name", name, most=200),
        "kind": checks.text("kind", kind, most=200),
        "metadata": checks.mapping("metadata", {} if metadata is None else metadata),
    }
    return partial(_register, params)


def get(tenant: UUID, agent: UUID) -> WorkFactory[Agent]:
    """Read an agent.

    :raises UnknownAgent: when the tenant has none of this id
    """
    return partial(_get, _key(tenant, agent))


def update(
    agent: Agent, *, name: str | None = None, metadata: dict[str, Any] | None = None
) -> WorkFactory[Agent]:
    """Change name or metadata of an agent that was read before.

    :param metadata: the whole new metadata, or None to leave it
    :raises VersionChanged: when somebody else changed it meanwhile, or it is retired
    """
    params = {
        **_key(agent.tenant, agent.id),
        "version": checks.whole("version", agent.version, most=2**63 - 1),
        "name": None if name is None else checks.text("name", name, most=200),
        "metadata": None if metadata is None else checks.mapping("metadata", metadata),
    }
    return partial(_update, params)


def retire(tenant: UUID, agent: UUID) -> WorkFactory[Agent]:
    """Retire an agent: it stays readable and takes no more changes. Repeating it is allowed.

    :raises UnknownAgent: when the tenant has none of this id
    """
    return partial(_retire, _key(tenant, agent))


def page(
    tenant: UUID, *, after: UUID | None = None, limit: int = 100, retired: bool = False
) -> WorkFactory[list[Agent]]:
    """List agents in the order of their ids, which is that of their birth.

    :param after: the id of the last agent of the page before
    :param retired: whether to list those, too
    """
    params = {
        "tenant": checks.uuid("tenant", tenant),
        "after": checks.BEFORE_ALL if after is None else checks.uuid("after", after),
        "limit": checks.page(limit),
        "retired": bool(retired),
    }
    return partial(_page, params)


def _key(tenant: UUID, agent: UUID) -> dict[str, Any]:
    return {"tenant": checks.uuid("tenant", tenant), "agent": checks.uuid("agent", agent)}


def _register(params: dict[str, Any]) -> Work[Agent]:
    rows = yield Query(_REGISTER, params)
    if rows:
        return Agent(*rows[0])
    found = yield from _get(params)
    if (found.name, found.kind) != (params["name"], params["kind"]):
        raise AlreadyExists(
            f"agent {found.id} is there already as {found.kind} {found.name!r}: mint another id, "
            "or update it"
        )
    return found


def _get(params: dict[str, Any]) -> Work[Agent]:
    rows = yield Query(_GET, params)
    if not rows:
        raise _unknown(params)
    return Agent(*rows[0])


def _update(params: dict[str, Any]) -> Work[Agent]:
    rows = yield Query(_UPDATE, params)
    if rows:
        return Agent(*rows[0])
    found = yield from _get(params)
    what = "is retired" if found.retired_at else f"has version {found.version}"
    raise VersionChanged(
        f"agent {found.id} {what}, and the change was made on version {params['version']}: read "
        "it again"
    )


def _retire(params: dict[str, Any]) -> Work[Agent]:
    rows = yield Query(_RETIRE, params)
    if not rows:
        raise _unknown(params)
    return Agent(*rows[0])


def _page(params: dict[str, Any]) -> Work[list[Agent]]:
    rows = yield Query(_LIST, params)
    return [Agent(*row) for row in rows]


def _unknown(params: dict[str, Any]) -> UnknownAgent:
    return UnknownAgent(
        f"tenant {params['tenant']} has no agent {params['agent']}: check the id, or register it"
    )
