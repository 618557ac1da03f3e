"""Attempts to reach another tenant's rows as the application: all see and change nothing."""

from __future__ import annotations

from contextlib import contextmanager
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from tenantry import mint_agent_id
from tenantry.prelude import tenant_prelude
from tenantry_ops.cluster import read_places
from tenantry_ops.structure import schema_diff
from tenantry_schema.layout import Layout, bucket_statements
from tenantry_schema.models import Base
from tenantry_schema.naming import OPERATOR


@pytest.fixture
def neighbours(laid_out):
    return make_neighbours(laid_out)


def make_neighbours(laid_out):
    """Make two tenants of one bucket, each with one agent and one line of history."""
    places = read_places(laid_out.catalog_conninfo(OPERATOR))
    home = next(iter(places.map.placements()))
    place = next(it for it in places.shards if it.id == home.shard)
    keys = []
    with psycopg.connect(place.conninfo) as conn:
        while len(keys) < 2:
            key = uuid4()
            if places.map.of_tenant(key) != home:
                continue
            keys.append(key)
            conn.execute(f"SET LOCAL search_path = {home.schema}")
            conn.execute("INSERT INTO tenants (tenant_id, name) VALUES (%s, 't')", (key,))
            conn.execute(
                "INSERT INTO agents (tenant_id, id, name) VALUES (%s, %s, 'a')",
                (key, mint_agent_id(key)),
            )
            conn.execute(
                "INSERT INTO transitions (tenant_id, task_id, step, from_state, to_state) "
                "VALUES (%s, %s, 1, 'new', 'ready')",
                (key, uuid4()),
            )
            conn.execute(
                "INSERT INTO tasks (tenant_id, id, kind) VALUES (%s, %s, 'secret')", (key, uuid4())
            )
    shard = next(it for it in laid_out.shards if it.name == place.name)
    return home, shard.primary, *keys


@pytest.fixture
def routed(laid_out, neighbours):
    """The first tenant's routed transaction, and the second tenant's key."""
    home, server, mine, other = neighbours
    with psycopg.connect(laid_out.conninfo(server, user="tenantry_app"), autocommit=True) as conn:
        conn.execute(tenant_prelude(home.schema, str(mine)).message)
        yield conn, home, mine, other
        conn.rollback()


READS = [
    "SELECT * FROM {table} WHERE tenant_id = %(other)s",
    "SELECT * FROM {table} WHERE tenant_id = %(other)s OR true AND tenant_id <> %(mine)s",
    "SELECT * FROM {schema}.{table} WHERE tenant_id = %(other)s",
    "SELECT b.* FROM {table} a RIGHT JOIN {table} b ON true WHERE b.tenant_id <> %(mine)s",
    "WITH it AS MATERIALIZED (SELECT * FROM {table}) SELECT * FROM it WHERE tenant_id <> %(mine)s",
    "SELECT * FROM {table} WHERE tenant_id = %(other)s FOR SHARE",
    "UPDATE {table} SET tenant_id = tenant_id WHERE tenant_id = %(other)s RETURNING *",
    "DELETE FROM {table} WHERE tenant_id = %(other)s RETURNING *",
]


@pytest.mark.parametrize("statement", READS)
@pytest.mark.parametrize("table", ["tenants", "agents"])
def test_no_statement_finds_another_tenants_row(routed, statement, table):
    """WHERE, joins, CTEs, locks, UPDATE and DELETE: zero foreign rows."""
    conn, home, mine, other = routed
    text = statement.format(table=table, schema=home.schema)
    assert conn.execute(text, {"mine": mine, "other": other}).fetchall() == []


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO agents (tenant_id, id, name) VALUES (%(other)s, gen_random_uuid(), 'x')",
        "UPDATE agents SET tenant_id = %(other)s WHERE tenant_id = %(mine)s",
        "INSERT INTO transitions (tenant_id, task_id, step, from_state, to_state) VALUES "
        "(%(other)s, gen_random_uuid(), 1, 'new', 'ready')",
        "INSERT INTO tenants (tenant_id, name) VALUES (%(other)s, 'x') "
        "ON CONFLICT (tenant_id) DO UPDATE SET name = 'stolen'",
        "UPDATE transitions SET to_state = 'y'",
        "DELETE FROM transitions",
        "TRUNCATE agents",
        "COPY agents (tenant_id, id, name) FROM STDIN",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "SELECT pg_read_file('pg_hba.conf')",
        "SELECT * FROM pg_authid",
        "SET session_replication_role = replica",
        "SET SESSION AUTHORIZATION tenantry_owner",
        "ALTER TABLE agents OWNER TO tenantry_app",
        "SET LOCAL row_security = off; SELECT * FROM agents",
        "SET ROLE tenantry_owner",
        "SET ROLE tenantry_operator",
        "SELECT * FROM fleet.agents",
        "CREATE TABLE mine (id int)",
        "CREATE TEMP TABLE agents (id int)",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql RETURN 1",
        "ALTER TABLE agents DISABLE ROW LEVEL SECURITY",
        "DROP POLICY tenantry_app ON agents",
        "CREATE VIEW every AS SELECT * FROM agents",
    ],
)
def test_what_is_not_allowed_is_refused(routed, statement):
    """Foreign inserts, moved rows, history, COPY, TRUNCATE, roles, parents, DDL."""
    conn, _, mine, other = routed
    with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.FeatureNotSupported)):
        if "%(" in statement:
            conn.execute(statement, {"mine": mine, "other": other})
        else:
            conn.execute(statement)


def test_the_workers_role_sees_where_work_is_and_nothing_else(routed):
    """Tenant, queue and times of every tenant's tasks; neither payloads, nor other tables."""
    conn, _, mine, other = routed
    conn.execute("SET LOCAL ROLE tenantry_worker")
    found = conn.execute("SELECT DISTINCT tenant_id FROM tasks WHERE state = 'ready'").fetchall()
    assert {(mine,), (other,)} <= set(found)
    for statement in (
        "SELECT payload FROM tasks",
        "SELECT kind FROM tasks",
        "SELECT tenant_id FROM tasks FOR SHARE",
        "UPDATE tasks SET state = 'ready'",
        "SELECT tenant_id FROM agents",
        "INSERT INTO tasks (tenant_id) VALUES (gen_random_uuid())",
    ):
        conn.execute("SAVEPOINT here")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute(statement)
        conn.execute("ROLLBACK TO here")


def test_time_partitions_are_closed(routed):
    """Policies of a parent do not guard its partitions, so those may not be addressed at all."""
    conn, home, _, _ = routed
    names = conn.execute(
        "SELECT relname FROM pg_class WHERE relispartition AND relkind = 'r' "
        "AND relnamespace = %s::regnamespace AND relname LIKE 'transitions_p%%'",
        (home.schema,),
    ).fetchall()
    assert names
    for (name,) in names:
        conn.execute("SAVEPOINT here")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(home.schema, name)))
        conn.execute("ROLLBACK TO here")


def test_prepared_statements_follow_the_tenant(laid_out, neighbours):
    """A plan made for one tenant shows the next one its own rows, also as a generic plan."""
    home, server, mine, other = neighbours
    with psycopg.connect(laid_out.conninfo(server, user="tenantry_app"), autocommit=True) as conn:
        for _ in range(8):
            for key in (mine, other):
                conn.execute(tenant_prelude(home.schema, str(key)).message)
                conn.execute("SET LOCAL plan_cache_mode = force_generic_plan")
                rows = conn.execute("SELECT tenant_id FROM agents", prepare=True).fetchall()
                assert rows == [(key,)]
                conn.commit()


def test_after_errors_and_savepoints_the_tenant_stays(routed):
    """ROLLBACK TO keeps what was set before the savepoint; an error opens nothing."""
    conn, _, mine, _ = routed
    conn.execute("SAVEPOINT here")
    with pytest.raises(psycopg.errors.DivisionByZero):
        conn.execute("SELECT 1 / 0")
    conn.execute("ROLLBACK TO here")
    assert conn.execute("SELECT tenant_id FROM agents").fetchall() == [(mine,)]


def test_nothing_of_a_tenant_outlives_its_transaction(laid_out, neighbours):
    """A connection that goes back to a pool names no tenant and finds no table."""
    home, server, mine, _ = neighbours
    with psycopg.connect(laid_out.conninfo(server, user="tenantry_app"), autocommit=True) as conn:
        conn.execute(tenant_prelude(home.schema, str(mine)).message)
        conn.commit()
        setting = conn.execute("SELECT nullif(current_setting('tenantry.tenant', true), '')")
        assert setting.fetchone() == (None,)
        query = sql.SQL("SELECT * FROM {}").format(sql.Identifier(home.schema, "agents"))
        assert conn.execute(query).fetchall() == []
        with pytest.raises(psycopg.errors.UndefinedTable):
            conn.execute("SELECT * FROM agents")


def test_readers_read_their_tenant_only_and_write_nothing(laid_out, neighbours):
    """The read-only role is held by the same policies."""
    home, server, mine, _ = neighbours
    with psycopg.connect(laid_out.conninfo(server, user="tenantry_read"), autocommit=True) as conn:
        conn.execute(tenant_prelude(home.schema, str(mine)).message)
        assert conn.execute("SELECT tenant_id FROM agents").fetchall() == [(mine,)]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute("DELETE FROM agents")


@pytest.mark.parametrize("table", ["tenants", "agents", "transitions"])
def test_copying_out_gives_ones_own_rows(routed, table):
    """COPY TO is a query: policies filter it."""
    conn, home, mine, _ = routed
    for source in (table, f"{home.schema}.{table}", f"(SELECT * FROM {table})"):
        with conn.cursor().copy(f"COPY {source} TO STDOUT") as copied:
            rows = list(copied.rows())
        # A table that is partitioned by time has no rows of its own.
        assert {row[0] for row in rows} == ({str(mine)} if rows else set())
    assert rows


VIEWS = {
    "of the owner": ("tenantry_owner", "", 0),
    "as the caller": ("tenantry_owner", "WITH (security_invoker)", 1),
    "with a barrier": ("tenantry_owner", "WITH (security_barrier)", 0),
}
FUNCTIONS = {"of the owner": ("SECURITY DEFINER", 0), "as the caller": ("SECURITY INVOKER", 1)}


@contextmanager
def made(laid_out, server, home, owner, *, statement, drop):
    """Make something in the bucket, as somebody, that the application may use."""
    place = sql.Identifier(home.schema)
    with psycopg.connect(laid_out.conninfo(server), autocommit=True) as conn:
        conn.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(owner)))
        conn.execute("SET check_function_bodies = off")
        conn.execute(sql.SQL(statement).format(place))
        try:
            yield
        finally:
            conn.execute(sql.SQL(drop).format(place))


@pytest.mark.parametrize("kind", VIEWS)
def test_views_show_no_foreign_rows(laid_out, neighbours, kind):
    """The owner's policies let nobody in, so his views show nothing; the caller's show his own."""
    home, server, mine, _ = neighbours
    owner, options, seen = VIEWS[kind]
    statement = (
        f"CREATE VIEW {{0}}.every {options} AS SELECT * FROM {{0}}.agents; "
        "GRANT SELECT ON {0}.every TO tenantry_app"
    )
    with (
        made(laid_out, server, home, owner, statement=statement, drop="DROP VIEW {0}.every"),
        psycopg.connect(laid_out.conninfo(server, user="tenantry_app"), autocommit=True) as conn,
    ):
        conn.execute(tenant_prelude(home.schema, str(mine)).message)
        rows = conn.execute("SELECT tenant_id FROM every").fetchall()
    assert rows == [(mine,)] * seen


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_functions_show_no_foreign_rows(laid_out, neighbours, kind):
    """Whoever a function runs as: row-level security is forced on the owner as well."""
    home, server, mine, _ = neighbours
    options, seen = FUNCTIONS[kind]
    statement = (
        f"CREATE FUNCTION {{0}}.all_agents() RETURNS SETOF {{0}}.agents LANGUAGE sql {options} "
        "AS 'SELECT * FROM {0}.agents'"
    )
    drop = "DROP FUNCTION {0}.all_agents()"
    with (
        made(laid_out, server, home, "tenantry_owner", statement=statement, drop=drop),
        psycopg.connect(laid_out.conninfo(server, user="tenantry_app"), autocommit=True) as conn,
    ):
        conn.execute(tenant_prelude(home.schema, str(mine)).message)
        rows = conn.execute("SELECT tenant_id FROM all_agents()").fetchall()
    assert rows == [(mine,)] * seen


def test_a_view_of_an_operator_is_named(laid_out, neighbours):
    """He reads across tenants, and so would his view: `tenantry schema diff` tells of it."""
    home, server, _, _ = neighbours
    statement = "CREATE VIEW {0}.every AS SELECT * FROM {0}.agents"
    role, drop = "tenantry_operator", "DROP VIEW {0}.every"
    with made(laid_out, server, home, role, statement=statement, drop=drop):
        (found,) = schema_diff(laid_out.catalog_conninfo(OPERATOR))
    assert (found.schema, found.table, found.expected) == (home.schema, "every", None)
    assert "owner tenantry_operator" in found.found


def test_an_agents_id_opens_nothing_once_a_tenant_is_named(routed, laid_out, neighbours):
    """The setting that finds an agent's tenant does not show a foreign agent to a tenant."""
    conn, home, mine, other = routed
    with psycopg.connect(laid_out.conninfo(neighbours[1])) as operator:
        operator.execute(sql.SQL("SET search_path = {}").format(sql.Identifier(home.schema)))
        query = "SELECT id FROM agents WHERE tenant_id = %s"
        ((agent,),) = operator.execute(query, (other,)).fetchall()
    conn.execute("SELECT set_config('tenantry.agent', %s, true)", (str(agent),))
    assert conn.execute("SELECT tenant_id FROM agents").fetchall() == [(mine,)]


def test_every_bucket_is_made_with_policies(database):
    """A new bucket, straight from its statements: forced on every table and partition."""
    from datetime import UTC, datetime

    from tenantry_schema.layout import shard_statements
    from tenantry_schema.sql import load

    layout = Layout.from_metadata(Base.metadata)
    with psycopg.connect(database.operator) as conn:
        for statement in shard_statements(layout):
            conn.execute(statement)
        conn.execute(sql.SQL(";").join(bucket_statements(layout, 3, now=datetime.now(UTC))))
        tables = conn.execute(load("bucket_tables")).fetchall()
    assert len(tables) == len(layout.bucketed) + 2 * 9
    assert all(forced and policies >= 2 for _, _, forced, policies in tables)
