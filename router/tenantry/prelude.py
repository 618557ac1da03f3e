"""The one message that opens a routed transaction (design, section 3).

It is sent by the simple query protocol, so ``BEGIN``, the bucket's ``search_path`` and the tenant's
setting cost the round trip that a driver spends on ``BEGIN`` alone. Everything in it is ``LOCAL``:
nothing outlives the transaction, so it is right behind PgBouncer in transaction mode too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from psycopg import sql

from tenantry.tokens import lsn_text
from tenantry_schema.naming import AGENT_SETTING, OPERATION_KEYS, SHARED, TENANT_SETTING, WORKER

if TYPE_CHECKING:
    from uuid import UUID

_TENANT = sql.SQL("BEGIN; SET LOCAL search_path = {schema}, {shared}; SET LOCAL {setting} = {key}")

# While no tenant is named the agent's own row is visible by its id (policy on `agents`), and tells
# the tenant that all other policies ask for. No row leaves the setting empty: no rows at all.
_AGENT = sql.SQL(
    "BEGIN; SET LOCAL search_path = {schema}, {shared}; SET LOCAL {no_tenant} = ''; "
    "SET LOCAL {agent_setting} = {agent}; SELECT set_config({tenant_setting}, "
    "(SELECT tenant_id::text FROM agents WHERE id = {agent}), true)"
)

# A position means something on its own line of history only.
_REPLAYED = (
    b"; SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.pg_last_wal_replay_lsn(), "
    b"(SELECT timeline FROM tenantry.lineage ORDER BY id DESC LIMIT 1)"
)
#: The lines of a shard's history as one text, for :func:`~tenantry.tokens.parse_lines`.
LINES = (
    b"(SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', system_identifier, timeline, "
    b"switch_lsn), ',' ORDER BY id) FROM tenantry.lineage)"
)
#: Where a primary stands: the position behind what it has written, and its timeline.
WRITTEN = (
    b"SELECT pg_catalog.pg_current_wal_insert_lsn(), pg_catalog.substr("
    b"pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8)"
)

_OPERATION = sql.SQL(
    "INSERT INTO {table} (tenant_id, key) VALUES (current_setting({setting})::{type}, {key})"
)
_TYPES = {"uuid": sql.SQL("uuid"), "bigint": sql.SQL("bigint"), "text": sql.SQL("text")}
_SWEEP = sql.SQL("BEGIN READ ONLY; SET LOCAL search_path = {shared}; SET LOCAL ROLE {worker}")

_SCATTER = sql.SQL("BEGIN READ ONLY; SET LOCAL search_path = {shared}")


class Awaited(NamedTuple):
    """A position that a replica waits for itself, and for how many seconds."""

    lsn: int
    seconds: float

    @property
    def text(self) -> bytes:
        """The statement; it has one row, also when the time was too short."""
        # No time at all would mean for ever.
        bound = max(1, round(self.seconds * 1000))
        lsn = lsn_text(self.lsn)
        return f"WAIT FOR LSN '{lsn}' WITH (TIMEOUT '{bound} ms', NO_THROW)".encode()


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
        no_tenant=_setting(TENANT_SETTING),
        agent_setting=_setting(AGENT_SETTING),
        tenant_setting=sql.Literal(TENANT_SETTING),
        agent=sql.Literal(str(agent)),
    ).as_bytes(None)


def with_operation(prelude: bytes, operation: str, key_type: str) -> bytes:
    """Return the message that also enters the operation's key, or is refused because it is there.

    :param operation: checked: text without NUL
    """
    return prelude + b"; " + enter_operation(operation, key_type).as_bytes(None)


def enter_operation(operation: str, key_type: str) -> sql.Composed:
    """Return the statement that enters an operation's key for the tenant of the transaction."""
    return _OPERATION.format(
        table=sql.Identifier(OPERATION_KEYS),
        setting=sql.Literal(TENANT_SETTING),
        type=_TYPES[key_type],
        key=sql.Literal(operation),
    )


def read_only(prelude: bytes) -> bytes:
    """Return the message that opens a transaction in which Postgres refuses every write."""
    return prelude.replace(b"BEGIN;", b"BEGIN READ ONLY;", 1)


def on_replica(prelude: bytes, awaited: Awaited | None) -> bytes:
    """Return the message as a replica gets it: read-only, and answered with where it stands.

    :param awaited: what the server itself is to wait for first (Postgres 19: WAIT FOR LSN)
    """
    message = read_only(prelude)
    if awaited is not None:
        # Before anything that takes a snapshot, which would keep replay from going on.
        message = message.replace(b"BEGIN READ ONLY;", b"BEGIN READ ONLY; %b;" % awaited.text, 1)
    return message + _REPLAYED


def on_primary(prelude: bytes) -> bytes:
    """Return the message as the primary gets it to answer for a token.

    Its last result says where the primary stands, and on which lines its history has run.
    """
    return read_only(prelude) + b"; " + WRITTEN + b", " + LINES


def scatter_prelude() -> bytes:
    """Return the message that opens a read on a whole shard, for no tenant."""
    return _SCATTER.format(shared=sql.Identifier(SHARED)).as_bytes(None)


def sweep_prelude() -> bytes:
    """Return the message that opens a look at which tenants of a shard have something to do."""
    return _SWEEP.format(shared=sql.Identifier(SHARED), worker=sql.Identifier(WORKER)).as_bytes(
        None
    )


def _setting(name: str) -> sql.Identifier:
    return sql.Identifier(*name.split("."))
