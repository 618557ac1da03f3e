"""The SQL that makes an empty cluster the fleet's: its roles and its databases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from tenantry_ops.fleet.secrets import REPLICATION
from tenantry_schema.naming import OWNER
from tenantry_schema.roles import make_role, role_statements, standby_statements

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tenantry_schema.query import Statement


# What pg_rewind's documentation asks for, under Notes; a base backup reads as much.
_REWIND = (
    "pg_catalog.pg_ls_dir(text, boolean, boolean)",
    "pg_catalog.pg_stat_file(text, boolean)",
    "pg_catalog.pg_read_binary_file(text)",
    "pg_catalog.pg_read_binary_file(text, bigint, bigint, boolean)",
)


def cluster_statements(verifiers: Mapping[str, str] | None = None) -> list[Statement]:
    """Return the statements that make all roles of a cluster; they may be repeated.

    To be run by a superuser in the database ``postgres``, to which ``pg_rewind`` connects.

    :param verifiers: role name -> SCRAM-SHA-256 verifier
    """
    role = sql.Identifier(REPLICATION)
    return [
        make_role(REPLICATION),
        sql.SQL("ALTER ROLE {} LOGIN REPLICATION").format(role),
        *role_statements(verifiers),
        *standby_statements(),
        *(
            sql.SQL("GRANT EXECUTE ON FUNCTION {} TO {}").format(sql.SQL(it), role)
            for it in _REWIND
        ),
    ]


def create_database(name: str) -> Statement:
    """Return the statement that makes a database of the fleet."""
    return sql.SQL("CREATE DATABASE {} OWNER {}").format(
        sql.Identifier(name), sql.Identifier(OWNER)
    )
