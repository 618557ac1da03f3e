"""The statements that make one bucket: its schema, its partitions, their keys, policies, grants."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

from psycopg import sql

from tenantry_schema.layout.checks import TENANT_COLUMN
from tenantry_schema.layout.ddl import STAND_IN, bucket_constraints
from tenantry_schema.layout.rules import TableKind
from tenantry_schema.naming import (
    AGENT_SETTING,
    APP,
    FLEET,
    OWNER,
    READ,
    SERVING,
    SHARED,
    TENANT_SETTING,
    WORKER,
    bucket_schema,
)
from tenantry_schema.timing import partition_name

if TYPE_CHECKING:
    from datetime import datetime

    from tenantry_schema.layout.rules import Layout, TableRule
    from tenantry_schema.query import Statement

# `bigint` is a word of the grammar, not a type's name.
_CASTS = {"uuid": sql.SQL("uuid"), "bigint": sql.SQL("bigint"), "text": sql.SQL("text")}

#: Time partitions around the current one that a new bucket starts with.
BEHIND, AHEAD = 1, 7


def bucket_statements(
    layout: Layout, number: int, generation: int = 1, *, now: datetime
) -> list[Statement]:
    """Return the statements that make a bucket, to be run in one transaction.

    They are not repeatable: the transaction is the unit, and a bucket that is there is complete.
    To be run as the owner's role, whose it all is then.

    :param number: the bucket's number, which its rows carry
    :param now: the moment around which the first time partitions lie
    """
    schema = bucket_schema(number, generation)
    return [
        sql.SQL("CREATE SCHEMA {} AUTHORIZATION {}").format(*_names(schema, OWNER)),
        *table_statements(layout, schema, number, now=now),
        sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(
            sql.Identifier(schema), sql.SQL(", ").join(_names(*SERVING))
        ),
    ]


def table_statements(  # noqa: PLR0913  where the tables around them lie has defaults
    layout: Layout,
    schema: str,
    number: int,
    *,
    now: datetime,
    parents: str = FLEET,
    shared: str = SHARED,
) -> list[Statement]:
    """Return the statements that make a layout's tables in a bucket's schema that is there.

    To be run as the owner's role, whose they are then.

    :param schema: the bucket's schema, a name of letters, digits and underscores
    :param parents: the schema that their parents lie in
    :param shared: the schema that reference tables lie in
    """
    made: list[Statement] = []
    for rule in layout.bucketed:
        made.extend(_partition(rule, schema, number, now, parents))
    # Compiled by SQLAlchemy for the stand-in; the schema's name needs no quotes.
    constraints = _constraints(layout, shared)
    made.extend(sql.SQL(text.replace(f'"{STAND_IN}"', schema)) for text in constraints)
    for rule in layout.bucketed:
        made.extend(_secured(rule, layout, schema, now))
    return made


def time_partitions(rule: TableRule, now: datetime) -> list[tuple[str, datetime, datetime]]:
    """Return names and bounds of a table's first time partitions, on the grid that it keeps."""
    if rule.grid is None:
        return []
    current = rule.grid.index(now)
    starts = [rule.grid.start(current + offset) for offset in range(-BEHIND, AHEAD + 2)]
    return [
        (partition_name(rule.name, start, rule.grid.pattern), start, end)
        for start, end in pairwise(starts)
    ]


@lru_cache(maxsize=16)
def _constraints(layout: Layout, shared: str) -> tuple[str, ...]:
    return tuple(bucket_constraints(layout, shared))


def _partition(
    rule: TableRule, schema: str, number: int, now: datetime, parents: str
) -> list[Statement]:
    by_time: Statement = sql.SQL("")
    if rule.time_column is not None:
        by_time = sql.SQL(" PARTITION BY RANGE ({})").format(sql.Identifier(rule.time_column))
    table = sql.Identifier(schema, rule.name)
    made: list[Statement] = [
        sql.SQL(
            "CREATE TABLE {} PARTITION OF {} (bucket DEFAULT {}) FOR VALUES IN ({}){}{}"
        ).format(table, sql.Identifier(parents, rule.name), number, number, by_time, _storage(rule))
    ]
    for name, start, end in time_partitions(rule, now):
        child = sql.Identifier(schema, name)
        made.append(
            sql.SQL("CREATE TABLE {} PARTITION OF {} FOR VALUES FROM ({}) TO ({})").format(
                child, table, sql.Literal(start.isoformat()), sql.Literal(end.isoformat())
            )
        )
    return made


def _storage(rule: TableRule) -> Statement:
    if not rule.storage:
        return sql.SQL("")
    # Names were checked by the layout: they are words of the grammar, not identifiers.
    parameters = [sql.SQL(f"{name} = {value}") for name, value in rule.storage]
    return sql.SQL(" WITH ({})").format(sql.SQL(", ").join(parameters))


def _secured(rule: TableRule, layout: Layout, schema: str, now: datetime) -> list[Statement]:
    """Force row-level security on a table and its time partitions, and grant what may be done."""
    table = sql.Identifier(schema, rule.name)
    names = [rule.name, *(name for name, _, _ in time_partitions(rule, now))]
    made: list[Statement] = []
    for name in names:
        made.extend(policies(schema, name, layout.key_type))
    if rule.name == "agents" and "id" in rule.table.columns:
        made.append(_agent_policy(table))
    rights = "SELECT, INSERT"
    if rule.kind != TableKind.APPEND_ONLY:
        rights += ", UPDATE, DELETE"
    made.append(sql.SQL("GRANT {} ON {} TO {}").format(sql.SQL(rights), table, sql.Identifier(APP)))
    made.append(sql.SQL("GRANT SELECT ON {} TO {}").format(table, sql.Identifier(READ)))
    if rule.worker_columns:
        made.extend(_worker(rule, table))
    return made


def policies(schema: str, table: str, key_type: str) -> list[Statement]:
    """Return the statements that let a table's rows be seen and written by their tenant only."""
    target = sql.Identifier(schema, table)
    mine = sql.SQL("{} = nullif(current_setting({}, true), '')::{}").format(
        sql.Identifier(TENANT_COLUMN), sql.Literal(TENANT_SETTING), _CASTS[key_type]
    )
    return [
        sql.SQL("ALTER TABLE {} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY").format(
            target
        ),
        sql.SQL("CREATE POLICY tenantry_app ON {} TO {} USING ({mine}) WITH CHECK ({mine})").format(
            target, sql.Identifier(APP), mine=mine
        ),
        sql.SQL("CREATE POLICY tenantry_read ON {} FOR SELECT TO {} USING ({mine})").format(
            target, sql.Identifier(READ), mine=mine
        ),
    ]


def _agent_policy(table: sql.Identifier) -> Statement:
    """Let an agent's own row be seen by its id, as long as no tenant is named."""
    return sql.SQL(
        "CREATE POLICY tenantry_agent ON {} FOR SELECT TO {}, {} USING ("
        "id = nullif(current_setting({}, true), '')::uuid "
        "AND nullif(current_setting({}, true), '') IS NULL)"
    ).format(table, *_names(APP, READ), sql.Literal(AGENT_SETTING), sql.Literal(TENANT_SETTING))


def _worker(rule: TableRule, table: sql.Identifier) -> list[Statement]:
    """Let the worker's role see where work is: some columns of every tenant's rows, read only."""
    columns = sql.SQL(", ").join(_names(*rule.worker_columns))
    role = sql.Identifier(WORKER)
    return [
        sql.SQL("CREATE POLICY tenantry_worker ON {} FOR SELECT TO {} USING (true)").format(
            table, role
        ),
        sql.SQL("GRANT SELECT ({}) ON {} TO {}").format(columns, table, role),
    ]


def _names(*names: str) -> tuple[sql.Identifier, ...]:
    return tuple(sql.Identifier(name) for name in names)
