"""Policies kept in a database: the catalog's for a fleet, a shard's own, or of a database alone.

A policy's name is ``schema.table``, or a bare table's name for the table of every bucket.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from psycopg import sql

from tenantry_partitions.policy import Policy
from tenantry_schema.errors import InvalidConfig, NotFound
from tenantry_schema.layout import policy_table
from tenantry_schema.naming import ADMIN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import psycopg

    from tenantry_partitions.inspect import Target
    from tenantry_schema.query import Statement

_COLUMNS = tuple(field.name for field in fields(Policy))
_THERE = "SELECT to_regclass('tenantry.partition_policies') IS NOT NULL"
_LISTED = sql.SQL(", ").join(sql.Identifier(name) for name in _COLUMNS)
_READ = sql.SQL(
    "SELECT table_name, {} FROM tenantry.partition_policies ORDER BY table_name"
).format(_LISTED)
# CREATE … IF NOT EXISTS would ask for rights that are only needed when it is not there.
_MAKE = """
DO $make$ BEGIN
    IF to_regclass('tenantry.partition_policies') IS NULL THEN
        CREATE SCHEMA IF NOT EXISTS {schema};
        {table};
    END IF;
END $make$
"""
_UNSET = "DELETE FROM tenantry.partition_policies WHERE table_name = %s"


def read_policies(conn: psycopg.Connection[Any]) -> dict[str, Policy]:
    """Return the policies of a database by their names; none where there is no table of them.

    :raises InvalidConfig: naming the table whose policy is none
    """
    if conn.execute(_THERE).fetchone() != (True,):
        return {}
    found = {}
    for name, *values in conn.execute(_READ):
        try:
            found[name] = Policy.parse(dict(zip(_COLUMNS, values, strict=True)))
        except InvalidConfig as error:
            raise InvalidConfig(f"the policy of {name!r:.80}: {error}") from error
    return found


def policy_statements(name: str, policy: Policy) -> list[Statement]:
    """Return what keeps a policy in a database; the table of policies is made if need be.

    :raises InvalidConfig: for a name that is neither ``table`` nor ``schema.table``
    """
    split_name(name)
    row = {"table_name": name, **policy.as_row()}
    return [
        sql.SQL(_MAKE).format(schema=sql.Identifier(ADMIN), table=policy_table()),
        sql.SQL(
            "INSERT INTO tenantry.partition_policies ({columns}) VALUES ({values})"
            " ON CONFLICT (table_name)"
            " DO UPDATE SET ({columns}, updated_at) = ROW ({values}, now())"
        ).format(
            columns=sql.SQL(", ").join(map(sql.Identifier, row)),
            values=sql.SQL(", ").join(map(sql.Literal, row.values())),
        ),
    ]


def set_policy(conn: psycopg.Connection[Any], name: str, policy: Policy) -> None:
    """Keep a policy in a database, in one transaction."""
    with conn.transaction():
        for statement in policy_statements(name, policy):
            conn.execute(statement)


def unset_policy(conn: psycopg.Connection[Any], name: str) -> None:
    """Forget a policy; partitions stay as they are.

    :raises NotFound: when there is none
    """
    if name not in read_policies(conn) or conn.execute(_UNSET, (name,)).rowcount != 1:
        raise NotFound(
            f"there is no policy of {name!r:.80} here: `partitions policy list` says all"
        )


def split_name(name: str) -> tuple[str | None, str]:
    """Return schema and table of a policy's name; None for the table of every bucket.

    :raises InvalidConfig: for another form
    """
    parts = name.split(".")
    if (
        not all(parts)
        or len(parts) > 2
        or "\0" in name
        or any(len(it.encode()) > 63 for it in parts)
    ):
        raise InvalidConfig(
            f"{name!r:.80} is no table's name: write schema.table, or a bucketed table's bare name"
        )
    return (parts[0], parts[1]) if len(parts) == 2 else (None, parts[0])


def targets(policies: Mapping[str, Policy], buckets: Sequence[str] = ()) -> dict[Target, Policy]:
    """Return the tables that policies are for.

    :param buckets: the schemas of the buckets, in each of which a bare name's table lies
    """
    found: dict[Target, Policy] = {}
    for name, policy in policies.items():
        schema, table = split_name(name)
        for place in buckets if schema is None else (schema,):
            found[place, table] = policy
    return found
