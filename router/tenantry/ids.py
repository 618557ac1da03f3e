"""Agent ids that route by themselves: UUIDv8 with the position of the agent's tenant inside.

::

    48 bits Unix milliseconds | 4 bits version 8 | 12 random bits
    2 bits variant | 32 bits position of the tenant | 30 random bits

Time-ordered, so friendly to B-trees (RFC 9562, section 5.8); the bucket falls out of the id
whatever the ranges are today.
"""

from __future__ import annotations

import secrets
import time
from typing import NamedTuple
from uuid import UUID

from tenantry.errors import InvalidKey
from tenantry.keys import TenantKey, position, shown

_VERSION = 8 << 76
_VARIANT = 0b10 << 62
_MS = 1 << 48
_POSITION_MASK = (1 << 32) - 1


class AgentId(NamedTuple):
    """What an agent id says: its birth in Unix milliseconds, and its tenant's position."""

    ms: int
    position: int


def mint_agent_id(tenant: TenantKey, *, now_ms: int | None = None) -> UUID:
    """Return a new agent id for a tenant.

    :param tenant: the tenant's key, of the fleet's type (a UUID as :class:`uuid.UUID`)
    :param now_ms: Unix milliseconds, default the clock's
    :raises InvalidKey: for a key of another type, or a time beyond 48 bits
    """
    if isinstance(tenant, bool) or not isinstance(tenant, UUID | int | str):
        raise InvalidKey(f"a tenant key is a UUID, an int or a str, not {shown(tenant)}")
    ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    if not 0 <= ms < _MS:
        raise InvalidKey(f"milliseconds of an agent id must fit 48 bits, not {shown(ms)}")
    random = secrets.randbits(42)
    return UUID(
        int=ms << 80
        | _VERSION
        | (random >> 30) << 64
        | _VARIANT
        | position(tenant) << 30
        | random & ((1 << 30) - 1)
    )


def parse_agent_id(agent: UUID) -> AgentId:
    """Read an agent id.

    :raises InvalidKey: when it was not minted by :func:`mint_agent_id`
    """
    if not isinstance(agent, UUID):
        raise InvalidKey(f"an agent id is a uuid.UUID, not {shown(agent)}")
    value = agent.int
    if value >> 76 & 0xF != 8 or value >> 62 & 0b11 != 0b10:
        raise InvalidKey(
            f"{agent} is not an agent id: version 8 and the standard variant are expected; "
            "ids that were not minted by tenantry are found through the directory"
        )
    return AgentId(value >> 80, value >> 30 & _POSITION_MASK)
