"""The catalog: the tables that hold the truth about placement (design, sections 2 and 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql
from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import INT8RANGE, JSONB, ExcludeConstraint

from tenantry_schema.naming import ADMIN, APP, OPERATOR, OWNER, READ

if TYPE_CHECKING:
    from sqlalchemy.sql.elements import TextClause

    from tenantry_schema.query import Statement

_POSITION = "position >= 0 AND position < 4294967296"

metadata = MetaData(
    schema=ADMIN,
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "ck": "%(table_name)s_%(constraint_name)s_check",
    },
)


def _moment(name: str, *, nullable: bool = False) -> Column[object]:
    default = None if nullable else func.now()
    return Column(name, DateTime(timezone=True), nullable=nullable, server_default=default)


def _uuid() -> TextClause:
    return text("gen_random_uuid()")


fleet = Table(
    "fleet",
    metadata,
    Column("id", Uuid, primary_key=True, server_default=_uuid()),
    Column("singleton", Boolean, nullable=False, server_default=text("true"), unique=True),
    Column("key_type", Text, nullable=False),
    Column("map_version", BigInteger, nullable=False, server_default="1"),
    Column("models", Text),
    _moment("created_at"),
    CheckConstraint("singleton", name="singleton"),
    CheckConstraint("key_type IN ('uuid', 'bigint', 'text')", name="key_type"),
    CheckConstraint("map_version > 0", name="map_version"),
)

shards = Table(
    "shards",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False, unique=True),
    Column("durability", Text, nullable=False, server_default="local"),
    _moment("created_at"),
    CheckConstraint("name ~ '^[a-z0-9][a-z0-9_-]{0,62}$'", name="name"),
    CheckConstraint("durability IN ('local', 'two-nodes')", name="durability"),
)

nodes = Table(
    "nodes",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("shard_id", ForeignKey(shards.c.id), nullable=False),
    Column("name", Text, nullable=False, unique=True),
    Column("host", Text, nullable=False),
    Column("port", Integer, nullable=False),
    Column("dbname", Text, nullable=False),
    Column("zone", Text),
    _moment("created_at"),
    CheckConstraint("port BETWEEN 1 AND 65535", name="port"),
    UniqueConstraint("host", "port", "dbname"),
)

# Retired numbers stay as rows: a number is never given twice.
buckets = Table(
    "buckets",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("generation", Integer, nullable=False, server_default="1"),
    Column("positions", INT8RANGE),
    Column("shard_id", ForeignKey(shards.c.id), nullable=False),
    Column("state", Text, nullable=False, server_default="serving"),
    _moment("retired_at", nullable=True),
    CheckConstraint("number >= 0", name="number"),
    CheckConstraint("generation >= 1", name="generation"),
    CheckConstraint("state IN ('serving', 'moving', 'retired')", name="state"),
    CheckConstraint("(state = 'retired') = (retired_at IS NOT NULL)", name="retired_at"),
    CheckConstraint(
        "positions IS NULL OR (NOT isempty(positions) AND positions <@ int8range(0, 4294967296))",
        name="positions",
    ),
    ExcludeConstraint(
        (Column("positions"), "&&"),
        name="buckets_positions_excl",
        using="gist",
        where=text("state <> 'retired' AND positions IS NOT NULL"),
    ),
    Index("buckets_shard_idx", "shard_id"),
)

pins = Table(
    "pins",
    metadata,
    Column("tenant_key", Text, primary_key=True),
    Column("position", BigInteger, nullable=False, unique=True),
    Column("bucket", ForeignKey(buckets.c.number), nullable=False),
    CheckConstraint(_POSITION, name="position"),
)

tenants = Table(
    "tenants",
    metadata,
    Column("tenant_key", Text, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("position", BigInteger, nullable=False),
    _moment("created_at"),
    _moment("retired_at", nullable=True),
    CheckConstraint("name ~ '^[a-z0-9][a-z0-9_-]{0,62}$'", name="name"),
    CheckConstraint(_POSITION, name="position"),
    Index("tenants_position_idx", "position"),
)

agents = Table(
    "agents",
    metadata,
    Column("agent_id", Text, primary_key=True),
    Column("tenant_key", ForeignKey(tenants.c.tenant_key), nullable=False),
)

routers = Table(
    "routers",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("application", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("map_version", BigInteger, nullable=False),
    _moment("started_at"),
    _moment("seen_at"),
)

operations = Table(
    "operations",
    metadata,
    Column("id", Uuid, primary_key=True, server_default=_uuid()),
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("detail", JSONB, nullable=False, server_default="{}"),
    Column("state", Text, nullable=False, server_default="running"),
    Column("step", Text, nullable=False, server_default="begun"),
    Column("error", Text),
    _moment("started_at"),
    _moment("updated_at"),
    _moment("finished_at", nullable=True),
    CheckConstraint("state IN ('running', 'done', 'failed')", name="state"),
    CheckConstraint("(state = 'running') = (finished_at IS NULL)", name="finished_at"),
    Index(
        "operations_running_key",
        "kind",
        "subject",
        unique=True,
        postgresql_where=text("state = 'running'"),
    ),
)

# Here it holds what operators want; on a shard, and in a database that is used alone, what its
# migrations set.
partition_policies = Table(
    "partition_policies",
    metadata,
    Column("table_name", Text, primary_key=True),
    Column("control", Text, nullable=False),
    Column("interval", Text, nullable=False),
    Column("premake", Integer, nullable=False, server_default="7"),
    Column("retention", Text),
    Column("at_end", Text, nullable=False, server_default="keep"),
    Column("encoding", Text),
    Column("names", Text),
    _moment("anchor", nullable=True),
    _moment("updated_at"),
    CheckConstraint("premake BETWEEN 1 AND 1000", name="premake"),
    CheckConstraint("at_end IN ('keep', 'detach', 'drop', 'archive')", name="at_end"),
    CheckConstraint("at_end = 'keep' OR retention IS NOT NULL", name="retention"),
    CheckConstraint("encoding IN ('time', 'uuid7', 'seconds', 'milliseconds')", name="encoding"),
)


def grant_statements() -> list[Statement]:
    """Return the statements that let the roles use the catalog; they may be repeated."""
    schema = sql.Identifier(ADMIN)
    roles = sql.SQL(", ").join(sql.Identifier(it) for it in (APP, READ, OPERATOR))
    heart = sql.Identifier(ADMIN, routers.name)
    return [
        sql.SQL("ALTER SCHEMA {} OWNER TO {}").format(schema, sql.Identifier(OWNER)),
        sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(schema, roles),
        sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA {} TO {}").format(schema, roles),
        sql.SQL("GRANT INSERT, UPDATE, DELETE ON {} TO {}, {}").format(
            heart, sql.Identifier(APP), sql.Identifier(READ)
        ),
    ]
