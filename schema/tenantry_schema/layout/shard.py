"""The statements that make a shard ready for buckets: schemas, parents, what it knows of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql
from sqlalchemy.schema import CreateTable

from tenantry_schema.catalog import partition_policies
from tenantry_schema.layout.ddl import compiled, parent_ddl
from tenantry_schema.naming import ADMIN, APP, FLEET, OWNER, READ, SHARED
from tenantry_schema.sql import load

if TYPE_CHECKING:
    from tenantry_schema.layout.rules import Layout
    from tenantry_schema.query import Statement


def policy_table() -> Statement:
    """Return the statement that makes the table of partition policies, if it is not there."""
    return sql.SQL(compiled(CreateTable(partition_policies, if_not_exists=True)))


def shard_statements(layout: Layout) -> list[Statement]:
    """Return the statements that make or complete a shard; they may be repeated.

    To be run by a member of the owner's role, in one transaction.
    """
    made: list[Statement] = [sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(OWNER))]
    made.extend(
        sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema))
        for schema in (ADMIN, FLEET, SHARED)
    )
    made.append(sql.SQL(load("shard_facts")))
    made.append(sql.SQL(load("bucket_of")))
    made.append(sql.SQL(load("certify_lineage")))
    made.append(policy_table())
    made.extend(sql.SQL(text) for text in parent_ddl(layout))
    for schema in (ADMIN, SHARED):
        made.extend(read_grants(schema))
    readers = _readers()
    made.append(
        sql.SQL("GRANT EXECUTE ON FUNCTION {}(timestamptz) TO {}").format(
            sql.Identifier(ADMIN, "certify_lineage"), readers
        )
    )
    made.append(
        sql.SQL(
            "ALTER DEFAULT PRIVILEGES FOR ROLE {} IN SCHEMA {} GRANT SELECT ON TABLES TO {}"
        ).format(sql.Identifier(OWNER), sql.Identifier(SHARED), readers)
    )
    return made


def read_grants(schema: str) -> list[Statement]:
    """Return the statements that let the application read the tables that a schema has now."""
    return [
        sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(sql.Identifier(schema), _readers()),
        sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA {} TO {}").format(
            sql.Identifier(schema), _readers()
        ),
    ]


def _readers() -> Statement:
    return sql.SQL("{}, {}").format(sql.Identifier(APP), sql.Identifier(READ))
