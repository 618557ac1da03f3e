"""A declared read cannot write: Postgres itself refuses."""

from __future__ import annotations

from datetime import timedelta

import psycopg
import pytest
from reading import NEWEST, add_agent

from tenantry import AtLeast, Query, Receipt
from tenantry_schema.naming import SHARD_DATABASE

WRITES = [
    "INSERT INTO agents (tenant_id, id, name) SELECT tenant_id, gen_random_uuid(), 'x' FROM agents",
    "UPDATE agents SET name = 'x'",
    "DELETE FROM agents",
    "SELECT 1 FROM agents FOR UPDATE",
    "SELECT shared.writes()",
    "SELECT nextval('shared.counts')",
    "CREATE TEMP TABLE t (n int)",
    "CREATE TABLE shared.t (n int)",
    "MERGE INTO agents USING (SELECT 1) AS it ON false WHEN NOT MATCHED THEN "
    "INSERT (tenant_id, id, name) VALUES (gen_random_uuid(), gen_random_uuid(), 'x')",
    "CALL shared.writes_too()",
    "COPY agents FROM STDIN",
    "TRUNCATE agents",
]


@pytest.fixture(scope="module")
def writing_functions(laid_out):
    """A sequence, a function and a procedure that the application may use."""
    for shard in laid_out.shards:
        conninfo = laid_out.superuser_conninfo(shard.primary, SHARD_DATABASE)
        with psycopg.connect(conninfo, autocommit=True) as conn:
            conn.execute("CREATE SEQUENCE shared.counts")
            conn.execute("GRANT USAGE ON SEQUENCE shared.counts TO tenantry_app")
            body = "BEGIN DELETE FROM agents; END"
            conn.execute(
                f"CREATE FUNCTION shared.writes() RETURNS void LANGUAGE plpgsql AS $${body}$$"
            )
            conn.execute(f"CREATE PROCEDURE shared.writes_too() LANGUAGE plpgsql AS $${body}$$")
    yield
    for shard in laid_out.shards:
        conninfo = laid_out.superuser_conninfo(shard.primary, SHARD_DATABASE)
        with psycopg.connect(conninfo, autocommit=True) as conn:
            conn.execute("DROP PROCEDURE shared.writes_too")
            conn.execute("DROP FUNCTION shared.writes")
            conn.execute("DROP SEQUENCE shared.counts")


def in_a_block(router, tenant, statement, read, receipt):
    with router.connection(tenant=tenant, read=read) as conn:
        receipt.role = conn.receipt.role
        conn.execute(statement)


def as_the_last(router, tenant, statement, read, receipt):
    def work():
        yield Query(statement, last=True)

    router.run(work, tenant=tenant, read=read, receipt=receipt)


@pytest.mark.parametrize("statement", WRITES)
@pytest.mark.parametrize("where", ["replica", "primary"])
@pytest.mark.parametrize("execute", [in_a_block, as_the_last])
@pytest.mark.usefixtures("writing_functions")
def test_a_declared_read_cannot_write(router, tenant, statement, where, execute):
    """Postgres itself refuses, on the primary that answers instead as well."""
    wait = AtLeast(add_agent(router, tenant), otherwise="wait", wait=timedelta(seconds=20))
    read = wait if where == "replica" else NEWEST
    receipt = Receipt()
    with pytest.raises(psycopg.Error) as refused:
        execute(router, tenant, statement, read, receipt)
    assert receipt.role == where
    # A statement of COPY … FROM is refused under row-level security before it may write.
    expected = {"25006", "0A000"} if statement.startswith("COPY") else {"25006"}
    assert refused.value.sqlstate in expected
