"""The one message that opens a routed transaction (design, section 3).

It is sent by the simple query protocol, so ``BEGIN``, the bucket's ``search_path`` and the tenant's
setting cost the round trip that a driver spends on ``BEGIN`` alone. Everything in it is ``LOCAL``:
nothing outlives the transaction, so it is right behind PgBouncer in transaction mode too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from tenantry_schema.naming import AGENT_SETTING, SHARED, TENANT_SETTING

if TYPE_CHECKING:
    from uuid import UUID

_TENANT = sql.SQL("BEGIN; SET LOCAL search_path = {schema}, {shared}; SET LOCAL {setting} = {key}")

# The agent's own row is visible by its id (policy on `agents`), and tells the tenant that all other
# policies ask for. No row leaves the setting empty: no rows at all.
_AGENT = sql.SQL(
    "BEGIN; SET LOCAL search_path = {schema}, {shared}; SET LOCAL {agent_setting} = {agent}; "
    "SELECT set_config({tenant_setting}, "
    "(SELECT tenant_id::text FROM agents WHERE id = {agent}), true)"
)

_SCATTER = sql.SQL("BEGIN READ ONLY; SET LOCAL search_path = {shared}")


def tenant_prelude(schema: str, key: str) -> bytes:
    """Return the message that opens a transaction for a tenant.

    :param schema: the bucket's schema, as the map holds it
    :param key: the tenant key's text, validated
    """
    return _TENANT.format(
        schema=sql.Identifier(schema),
        shared=sql.Identifier(SHARED),
        setting=_setting(TENANT_SETTING),
        key=sql.Literal(key),
    ).as_bytes(None)


def agent_prelude(schema: str, agent: UUID) -> bytes:
    """Return the message that opens a transaction for an agent whose tenant is not known yet.

    Its last result is one row with the tenant key's text, or an empty one.
    """
    return _AGENT.format(
        schema=sql.Identifier(schema),
        shared=sql.Identifier(SHARED),
        agent_setting=_setting(AGENT_SETTING),
        tenant_setting=sql.Literal(TENANT_SETTING),
        agent=sql.Literal(str(agent)),
    ).as_bytes(None)


def scatter_prelude() -> bytes:
    """Return the message that opens a read on a whole shard, for no tenant."""
    return _SCATTER.format(shared=sql.Identifier(SHARED)).as_bytes(None)


def _setting(name: str) -> sql.Identifier:
    return sql.Identifier(*name.split("."))
