"""The SQL that makes an empty cluster the fleet's: its roles and its databases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from tenantry_ops.fleet.secrets import REPLICATION
from tenantry_schema.naming import OWNER
from tenantry_schema.roles import make_role, role_statements

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tenantry_schema.query import Statement


def cluster_statements(verifiers: Mapping[str, str] | None = None) -> list[Statement]:
    """Return the statements that make all roles of a cluster; they may be repeated.

    :param verifiers: role name -> SCRAM-SHA-256 verifier
    """
    replicates = sql.SQL("ALTER ROLE {} LOGIN REPLICATION").format(sql.Identifier(REPLICATION))
    return [make_role(REPLICATION), replicates, *role_statements(verifiers)]


def create_database(name: str) -> Statement:
    """Return the statement that makes a database of the fleet."""
    return sql.SQL("CREATE DATABASE {} OWNER {}").format(
        sql.Identifier(name), sql.Identifier(OWNER)
    )
