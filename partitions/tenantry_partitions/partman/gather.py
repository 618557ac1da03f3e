"""Gather what the doctor looks at: pg_partman's sets, and the tables as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tenantry_partitions.findings import Finding
from tenantry_partitions.inspect import inspect_one
from tenantry_partitions.partman.config import policy_of
from tenantry_partitions.partman.doctor import SetFacts, examine
from tenantry_partitions.partman.extension import find_extension, read_sets
from tenantry_partitions.planner import plan
from tenantry_partitions.policy import Policy
from tenantry_partitions.session import PARTMAN_LOCK, database_time, lock_holder
from tenantry_schema.errors import InvalidConfig, RolloverFailed, UnsuitableTable

if TYPE_CHECKING:
    import psycopg

    from tenantry_partitions.inspect import Inspected
    from tenantry_partitions.partman.config import PartmanSet

_INDEXED = """
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_index
    JOIN pg_catalog.pg_attribute ON attrelid = indrelid AND attnum = indkey[0]
    WHERE indrelid = %s AND attname = %s
)
"""
# A span and names that any set can be read with, when its own configuration cannot be used.
_ANY = "1 day"


def diagnose(conn: psycopg.Connection[Any]) -> list[tuple[str, Finding]]:
    """Return what is wrong with pg_partman's sets: (set, finding).

    :param conn: a prepared session, see :func:`~tenantry_partitions.session.prepare`
    :raises NotFound: when pg_partman is not installed
    """
    extension = find_extension(conn)
    found: list[tuple[str, Finding]] = []
    for given in read_sets(conn, extension):
        facts = _facts(conn, given, extension.major)
        found.extend((given.parent_table, it) for it in examine(facts))
    holder = lock_holder(conn)
    if holder is not None:
        problem = f"{holder} holds {PARTMAN_LOCK!r}: no maintenance runs until it lets go"
        remedy = "if it is a pooled session after a failed run_maintenance_proc, end that session"
        found.append(("pg_partman", Finding("lock", problem, remedy, wrong=True)))
    return found


def adopted_policy(conn: psycopg.Connection[Any], given: PartmanSet) -> Policy:
    """Return the policy by which tenantry goes on with a set, as its partitions lie.

    :raises InvalidConfig: when it cannot be taken over
    :raises UnsuitableTable: when the table cannot be kept in time partitions
    """
    seen = _inspected(conn, given)
    starts = [it.start for it in seen.state.partitions]
    return policy_of(given, starts)


def _facts(conn: psycopg.Connection[Any], given: PartmanSet, major: int) -> SetFacts:
    try:
        seen = _inspected(conn, given)
    except (UnsuitableTable, RolloverFailed, InvalidConfig) as error:
        return SetFacts(given, major, None, None, problem=str(error))
    row = conn.execute(_INDEXED, (seen.oid, given.control)).fetchone()
    indexed = row == (True,)
    try:
        policy = policy_of(given, [it.start for it in seen.state.partitions])
    except InvalidConfig as error:
        return SetFacts(given, major, seen.state, None, indexed, str(error))
    due = plan(policy, inspect_one(conn, given.target, policy).state, database_time(conn))
    return SetFacts(given, major, seen.state, due, indexed)


def _inspected(conn: psycopg.Connection[Any], given: PartmanSet) -> Inspected:
    """Read a set's table with whatever can be used of its configuration."""
    encoding = given.epoch if given.epoch in {"seconds", "milliseconds"} else None
    reading = Policy.parse({"control": given.control, "interval": _ANY, "encoding": encoding})
    return inspect_one(conn, given.target, reading)
