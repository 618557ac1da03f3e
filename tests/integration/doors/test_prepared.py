"""What servers know by name, what they are told to forget, and what they forget by themselves."""

from __future__ import annotations

import psycopg
import pytest
from wire import round_trips, traced

from tenantry import Query, Router
from tenantry_schema.naming import OPERATOR
from tenantry_schema.query import every

RENAME = "UPDATE tenants SET name = %s WHERE tenant_id = %s"


def rename(router, tenant, name):
    """Write by a prepared statement; return the connection."""
    with router.connection(tenant=tenant) as conn:
        conn.execute(RENAME, (name, tenant), prepare=True)
    return conn


def test_a_write_parses_nothing_of_ours_anew(narrow, tenant, tmp_path):
    """What asks for its transaction's id is known to the server, too, where a pooler keeps it."""
    conn = [rename(narrow, tenant, name) for name in "ab"][-1]
    with traced(conn, tmp_path / "trace") as told:
        assert rename(narrow, tenant, "c") is conn
    count, asked = round_trips(told)
    assert count == 3
    if conn.prepare_threshold is not None:
        assert asked == ["COMMIT"]
    assert conn.told_xid.isdigit()


@pytest.mark.direct("a pooler's own names would be forgotten, which it does not notice either")
def test_a_server_that_forgot_behind_our_back_commits_nothing(narrow, tenant):
    """That is told for certain, and the next transaction is not met by it."""
    hidden = "DO $$BEGIN EXECUTE 'DEALLOCATE ALL'; END$$"
    with narrow.connection(tenant=tenant) as conn:
        conn.execute(RENAME, ("a", tenant))
    with pytest.raises(psycopg.errors.InvalidSqlStatementName):
        with narrow.connection(tenant=tenant) as conn:
            conn.execute(RENAME, ("b", tenant))
            conn.execute(hidden)
    for name in "cd":
        with narrow.connection(tenant=tenant) as again:
            assert again.execute(RENAME, (name, tenant)).rowcount == 1
        assert again is conn


@pytest.mark.parametrize("before", ["a refused COMMIT", "a last DROP", "a DROP"])
def test_what_is_prepared_anew_is_not_forgotten_at_once(laid_out, tenant, before):
    """What a transaction leaves to be forgotten takes nothing from those after it."""
    once = "CREATE TEMP TABLE once (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)"
    drop = Query("DROP TABLE IF EXISTS pg_temp.once", last=before == "a last DROP")
    with Router(laid_out.catalog_conninfo(OPERATOR), pool_size=1) as router:
        conn = [rename(router, tenant, name) for name in "ab"][-1]
        if before == "a refused COMMIT":
            with pytest.raises(psycopg.errors.UniqueViolation):
                with router.connection(tenant=tenant) as it:
                    it.execute(once)
                    it.execute("INSERT INTO pg_temp.once VALUES (1), (1)")
        else:
            router.run(lambda: every(drop), tenant=tenant)
        for name in "cdef":
            assert rename(router, tenant, name) is conn
        with router.connection(tenant=tenant) as it:
            named = it.execute("SELECT name FROM tenants WHERE tenant_id = %s", (tenant,))
            assert named.fetchone() == ("f",)


def test_a_server_may_be_told_to_forget_what_is_prepared(narrow, tenant):
    """In the middle of a transaction that wrote: it commits, and so does the next."""
    for name in "ab":
        with narrow.connection(tenant=tenant) as conn:
            conn.execute(RENAME, (name, tenant))
            conn.execute("DEALLOCATE ALL")
        assert conn.told_xid.isdigit()
    with narrow.connection(tenant=tenant) as conn:
        assert conn.execute("SELECT name FROM tenants").fetchone() == ("b",)
