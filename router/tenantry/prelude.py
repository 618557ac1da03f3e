"""The statements that open a routed transaction (design, section 3).

They are sent as one message, or along with the first statement of the transaction, so ``BEGIN``,
the bucket's ``search_path`` and the tenant's setting cost no round trip more than ``BEGIN`` alone,
or none. Everything in them is ``LOCAL``: nothing outlives the transaction, so it is right behind
PgBouncer in transaction mode too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from psycopg import sql

from tenantry.tokens import lsn_text
from tenantry_schema.naming import AGENT_SETTING, OPERATION_KEYS, SHARED, TENANT_SETTING, WORKER

if TYPE_CHECKING:
    from uuid import UUID

_PATH = sql.SQL("{schema}, {shared}")
_SET_PATH = b"SET LOCAL search_path = "
_SET = sql.SQL("SET LOCAL {setting} = {value}")
_SETTINGS = (
    "pg_catalog.set_config('search_path', $1, true), "
    f"pg_catalog.set_config('{TENANT_SETTING}', $2, true)"
)
#: What sets a transaction's path and tenant where values may be given: one text for all of them.
SETTINGS = f"SELECT {_SETTINGS}".encode()
#: The same for a transaction that only reads and ends with the flight that it opened with.
READING = f"SELECT pg_catalog.set_config('transaction_read_only', 'on', true), {_SETTINGS}".encode()
# A WAL file's name begins with the timeline (Postgres docs, 9.28.3).
_TIMELINE = (
    "pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8)"
)
# A division fails whatever the session's settings are, which anybody may have changed.
_CHECK = (
    "CASE WHEN 1 / CASE WHEN pg_catalog.pg_is_in_recovery() THEN 0 "
    f'WHEN {_TIMELINE} COLLATE "C" < {{}} THEN 0 ELSE 1 END = 1 THEN {_TIMELINE} END'
)
#: What is added to both where a pooler may lead to a primary that was deposed: it fails there, and
#: gives the timeline elsewhere.
CHECKED = f", {_CHECK.format('$3')}".encode()
# While no tenant is named the agent's own row is visible by its id (policy on `agents`), and tells
# the tenant that all other policies ask for. No row leaves the setting empty: no rows at all.
_FIND_TENANT = sql.SQL(
    "SELECT set_config({tenant_setting}, "
    "(SELECT tenant_id::text FROM agents WHERE id = {agent}), true)"
)
_BEGIN, _BEGIN_READ_ONLY = b"BEGIN", b"BEGIN READ ONLY"

# A position means something on its own line of history only.
_REPLAYED = (
    b"SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.pg_last_wal_replay_lsn(), "
    b"(SELECT timeline FROM tenantry.lineage ORDER BY id DESC LIMIT 1)"
)
#: The lines of a shard's history as one text, for :func:`~tenantry.tokens.parse_lines`.
LINES = (
    b"(SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', system_identifier, timeline, "
    b"switch_lsn), ',' ORDER BY id) FROM tenantry.lineage)"
)
#: Where a primary stands: the position behind what it has written, and its timeline.
WRITTEN = f"SELECT pg_catalog.pg_current_wal_insert_lsn(), {_TIMELINE}".encode()

_OPERATION = sql.SQL(
    "INSERT INTO {table} (tenant_id, key) VALUES (current_setting({setting})::{type}, {key})"
)
_TYPES = {"uuid": sql.SQL("uuid"), "bigint": sql.SQL("bigint"), "text": sql.SQL("text")}
_SET_SHARED = _SET_PATH + sql.Identifier(SHARED).as_bytes(None)
_ROLE = sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(WORKER)).as_bytes(None)


class Prelude(NamedTuple):
    """What opens a transaction.

    :ivar statements: in order, for one message
    :ivar schema: the bucket's
    :ivar settings: the values of :data:`SETTINGS` when these are all that follows ``BEGIN``, so
        that nothing is answered which must be known before the first statement
    """

    statements: tuple[bytes, ...]
    schema: str
    settings: tuple[bytes, bytes] | None = None

    @property
    def message(self) -> bytes:
        """One message of all statements, for the simple query protocol."""
        return b"; ".join(self.statements)


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


def tenant_prelude(schema: str, key: str) -> Prelude:
    """Return what opens a transaction for a tenant.

    :param schema: the bucket's schema, as the map holds it
    :param key: the tenant key's text, validated
    """
    path = _path(schema)
    statements = _BEGIN, _SET_PATH + path, _set(TENANT_SETTING, key)
    return Prelude(statements, schema, (path, key.encode()))


def agent_prelude(schema: str, agent: UUID) -> Prelude:
    """Return what opens a transaction for an agent whose tenant is not known yet.

    Its last result is one row with the tenant key's text, or an empty one.
    """
    find = _FIND_TENANT.format(
        tenant_setting=sql.Literal(TENANT_SETTING), agent=sql.Literal(str(agent))
    )
    statements = (
        _BEGIN,
        _SET_PATH + _path(schema),
        _set(TENANT_SETTING, ""),
        _set(AGENT_SETTING, str(agent)),
        find.as_bytes(None),
    )
    return Prelude(statements, schema)


def with_operation(prelude: Prelude, operation: str, key_type: str) -> Prelude:
    """Return what also enters the operation's key, or is refused because it is there.

    :param operation: checked: text without NUL
    """
    enter = enter_operation(operation, key_type).as_bytes(None)
    return Prelude((*prelude.statements, enter), prelude.schema)


def enter_operation(operation: str, key_type: str) -> sql.Composed:
    """Return the statement that enters an operation's key for the tenant of the transaction."""
    return _OPERATION.format(
        table=sql.Identifier(OPERATION_KEYS),
        setting=sql.Literal(TENANT_SETTING),
        type=_TYPES[key_type],
        key=sql.Literal(operation),
    )


def read_only(prelude: Prelude) -> Prelude:
    """Return what opens a transaction in which Postgres refuses every write."""
    return Prelude((_BEGIN_READ_ONLY, *prelude.statements[1:]), prelude.schema, prelude.settings)


def on_replica(reading: Prelude, awaited: Awaited | None) -> Prelude:
    """Return what a replica gets, to answer with where it stands.

    :param reading: a read-only prelude
    :param awaited: what the server itself is to wait for first (Postgres 19: WAIT FOR LSN)
    """
    # Before anything that takes a snapshot, which would keep replay from going on.
    wait = () if awaited is None else (awaited.text,)
    begin, *settings = reading.statements
    return Prelude((begin, *wait, *settings, _REPLAYED), reading.schema)


def on_primary(reading: Prelude) -> Prelude:
    """Return what the primary gets to answer for a token.

    Its last result says where the primary stands, and on which lines its history has run.

    :param reading: a read-only prelude
    """
    return Prelude((*reading.statements, WRITTEN + b", " + LINES), reading.schema)


def check(timeline: int) -> bytes:
    """Return the statement that fails where a primary has not come to a timeline, or is none.

    Elsewhere it gives its timeline.
    """
    known = f"'{timeline:08X}'"
    return f"SELECT {_CHECK.format(known)}".encode()


def scatter_prelude() -> Prelude:
    """Return what opens a read on a whole shard, for no tenant."""
    return Prelude((_BEGIN_READ_ONLY, _SET_SHARED), SHARED)


def sweep_prelude() -> Prelude:
    """Return what opens a look at which tenants of a shard have something to do."""
    return Prelude((_BEGIN_READ_ONLY, _SET_SHARED, _ROLE), SHARED)


def _path(schema: str) -> bytes:
    path = _PATH.format(schema=sql.Identifier(schema), shared=sql.Identifier(SHARED))
    return path.as_bytes(None)


def _set(name: str, value: str) -> bytes:
    setting = sql.Identifier(*name.split("."))
    return _SET.format(setting=setting, value=sql.Literal(value)).as_bytes(None)
