"""The roles of a fleet: who owns, who serves, who looks for work, who reads, who operates.

None is a superuser. The application's role owns nothing and cannot bypass row-level security;
passwords reach a server only as SCRAM verifiers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from tenantry_schema.naming import APP, OPERATOR, OWNER, READ, WORKER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tenantry_schema.query import Statement

#: Attributes of each role, in the order in which they are made.
ATTRIBUTES: dict[str, str] = {
    OWNER: "NOLOGIN NOBYPASSRLS",
    APP: "LOGIN NOINHERIT NOBYPASSRLS",
    READ: "LOGIN NOINHERIT NOBYPASSRLS",
    OPERATOR: "LOGIN INHERIT BYPASSRLS",
    WORKER: "NOLOGIN NOBYPASSRLS",
}

_MAKE = """
DO $make$ BEGIN
    CREATE ROLE {role};
EXCEPTION WHEN duplicate_object THEN
    NULL;
END $make$
"""


def role_statements(verifiers: Mapping[str, str] | None = None) -> list[Statement]:
    """Return the statements that make or correct the roles of a cluster; they may be repeated.

    To be run by a superuser, or a role with CREATEROLE that has BYPASSRLS itself.

    :param verifiers: role name -> SCRAM-SHA-256 verifier
    """
    made: list[Statement] = []
    for name, attributes in ATTRIBUTES.items():
        made.append(make_role(name))
        made.append(
            sql.SQL("ALTER ROLE {} NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION {}").format(
                sql.Identifier(name),
                sql.SQL(attributes),
            )
        )
    # NOINHERIT: the application's role is the worker's only where it says so.
    for name, member in ((OWNER, OPERATOR), (WORKER, APP)):
        made.append(sql.SQL("GRANT {} TO {}").format(sql.Identifier(name), sql.Identifier(member)))
    for name in (APP, READ):
        # Nothing resolves until a routed transaction has said where it is.
        made.append(sql.SQL("ALTER ROLE {} SET search_path = ''").format(sql.Identifier(name)))
        made.append(sql.SQL("ALTER ROLE {} SET row_security = on").format(sql.Identifier(name)))
    for name, verifier in (verifiers or {}).items():
        made.append(
            sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(name), sql.Literal(verifier))
        )
    return made


def make_role(name: str) -> Statement:
    """Return the statement that makes a role where there is none."""
    return sql.SQL(_MAKE).format(role=sql.Identifier(name))


def standby_statements() -> list[Statement]:
    """Return the statements that let the operator see replicas, and change which is primary.

    To be run by a superuser, once for a cluster; together with :func:`promotion_statements`. Where
    they may not be run, promotions happen elsewhere and are certified here.
    """
    operator = sql.Identifier(OPERATOR)
    return [
        # Who replicates; a checkpoint before the switch; an end for sessions that would write.
        sql.SQL("GRANT pg_read_all_stats, pg_checkpoint, pg_signal_backend TO {}").format(operator),
        sql.SQL(
            "GRANT ALTER SYSTEM ON PARAMETER default_transaction_read_only, "
            "synchronous_standby_names TO {}"
        ).format(operator),
    ]


def promotion_statements() -> list[Statement]:
    """Return the statements that let the operator promote, in the shard's database itself."""
    return [
        sql.SQL("GRANT EXECUTE ON FUNCTION {} TO {}").format(
            sql.SQL(function), sql.Identifier(OPERATOR)
        )
        for function in (
            "pg_catalog.pg_promote(boolean, integer)",
            "pg_catalog.pg_reload_conf()",
        )
    ]


def database_statements(database: str) -> list[Statement]:
    """Return the statements that let only the fleet's roles into a database."""
    name = sql.Identifier(database)
    members = sql.SQL(", ").join(sql.Identifier(it) for it in (APP, READ, OPERATOR))
    return [
        sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(name),
        sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(name, members),
    ]
