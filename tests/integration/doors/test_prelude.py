"""Routing saves a round trip: what goes over the wire, as libpq traces it."""

from __future__ import annotations

import re
from contextlib import contextmanager
from datetime import timedelta

import psycopg
import pytest
from fix_router import until, until_asked
from psycopg import IsolationLevel
from psycopg.pq import Trace, TransactionStatus
from sqlalchemy import text

from tenantry import AsyncRouter, Query, Router, Stale, mint_agent_id
from tenantry_schema.naming import OPERATOR
from tenantry_schema.query import every

ONE = "SELECT 1"
#: A statement that may not travel with what opens its transaction.
ALONE = "SELECT 1; SELECT 2"


@contextmanager
def traced(conn, path):
    """Write down every message of a connection; what is given is filled in at the end."""
    told = []
    with path.open("w") as file:
        conn.pgconn.trace(file.fileno())
        conn.pgconn.set_trace_flags(Trace.SUPPRESS_TIMESTAMPS)
        yield told
        conn.pgconn.untrace()
    fields = [line.split("\t") for line in path.read_text().splitlines()]
    # A text may go on over lines.
    told.extend(it for it in fields if len(it) > 2)


def round_trips(told):
    """Return how often the server was ready again, and what it was asked."""
    sent = [line for line in told if line[0] == "F" and line[2] in {"Query", "Parse"}]
    # A statement's name, which may be none, comes before its text, of which the first line counts.
    texts = [re.fullmatch(r'(?:"\w*" )?"(.*?)(?:"[ 0-9]*)?', line[3].strip())[1] for line in sent]
    return sum(line[2] == "ReadyForQuery" for line in told), texts


def check(told, tenant, schema):
    """The first statement comes along with BEGIN and its routing: one less than without routing."""
    count, asked = round_trips(told)
    values = [line[3] for line in told if line[2] == "Bind"]
    # Behind a pooler that keeps no prepared statements the values stand in the text.
    routing = " ".join([*asked[1:-2], *values])
    assert count == 2
    assert f'"{schema}", "shared"' in routing
    assert f"'{tenant}'" in routing
    assert [asked[0], *asked[-2:]] == ["BEGIN", ONE, "COMMIT"]


@pytest.mark.parametrize("door", ["connection", "session"])
def test_a_transaction_opens_along_with_its_first_statement(laid_out, tenant, tmp_path, door):
    """Through either kind of call, on the one connection of the pool."""
    with Router(laid_out.catalog_conninfo(), pool_size=1) as router:
        schema = router.where(tenant=tenant).schema
        # SQLAlchemy asks the first server of an engine what it is.
        with router.session(tenant=tenant) as session:
            session.connection()
        with router.connection(tenant=tenant) as conn:
            pass
        with traced(conn, tmp_path / "trace") as told:
            with getattr(router, door)(tenant=tenant) as it:
                it.execute(ONE if door == "connection" else text(ONE))
    check(told, tenant, schema)


@pytest.mark.parametrize("door", ["connection", "session"])
async def test_an_async_transaction_opens_so_too(laid_out, tenant, tmp_path, door):
    """The same bytes."""
    async with AsyncRouter(laid_out.catalog_conninfo(), pool_size=1) as router:
        schema = router.where(tenant=tenant).schema
        async with router.session(tenant=tenant) as session:
            await session.connection()
        async with router.connection(tenant=tenant) as conn:
            pass
        with traced(conn, tmp_path / "trace") as told:
            async with getattr(router, door)(tenant=tenant) as it:
                await it.execute(ONE if door == "connection" else text(ONE))
    check(told, tenant, schema)


def test_what_cannot_travel_goes_after_one_message(narrow, tenant, tmp_path):
    """Several statements in one text are for the simple protocol, and so is what opens them.

    Before COMMIT a pooler's server is asked who it is: nothing that opened them could ask.
    """
    with narrow.connection(tenant=tenant) as conn:
        pass
    with traced(conn, tmp_path / "trace") as told, narrow.connection(tenant=tenant) as it:
        it.execute(ALONE)
    count, asked = round_trips(told)
    schema = narrow.where(tenant=tenant).schema
    assert count == 3 + conn.pooled
    assert asked[0].startswith(f'BEGIN; SET LOCAL search_path = "{schema}", "shared"; SET LOCAL ')
    assert asked[0].endswith(f"'{tenant}'")
    assert [asked[1], asked[-1]] == [ALONE, "COMMIT"]
    assert conn.pooled or len(asked) == 3


def test_a_call_without_a_statement_asks_nothing(narrow, tenant, tmp_path):
    """There is nothing to open a transaction for."""
    with narrow.connection(tenant=tenant) as conn:
        pass
    with traced(conn, tmp_path / "trace") as told, narrow.connection(tenant=tenant):
        pass
    assert told == []


def test_a_prepared_statement_travels_too(narrow, tenant, tmp_path):
    """It is prepared by itself, once, and needs no text afterwards, where a pooler keeps it."""
    for _ in range(narrow.settings.prepare_threshold + 1):
        with narrow.connection(tenant=tenant) as conn:
            conn.execute("SELECT %s::int", (1,))
    with traced(conn, tmp_path / "trace") as told, narrow.connection(tenant=tenant) as it:
        assert it.execute("SELECT %s::int", (2,)).fetchone() == (2,)
    count, asked = round_trips(told)
    assert count == 2
    assert ([it for it in asked if "SELECT" in it] == []) is (conn.prepare_threshold is not None)


def test_a_write_parses_nothing_of_ours_anew(narrow, tenant, tmp_path):
    """What asks for its transaction's id is known to the server, too, where a pooler keeps it."""
    rename = "UPDATE tenants SET name = %s WHERE tenant_id = %s"

    def write(name):
        with narrow.connection(tenant=tenant) as conn:
            conn.execute(rename, (name, tenant), prepare=True)
        return conn

    conn = [write(name) for name in "ab"][-1]
    with traced(conn, tmp_path / "trace") as told:
        assert write("c") is conn
    count, asked = round_trips(told)
    assert count == 3
    if conn.prepare_threshold is not None:
        assert asked == ["COMMIT"]
    assert conn.told_xid.isdigit()


@pytest.mark.direct("a pooler's own names would be forgotten, which it does not notice either")
def test_a_server_that_forgot_behind_our_back_commits_nothing(narrow, tenant):
    """That is told for certain, and the next transaction is not met by it."""
    hidden = "DO $$BEGIN EXECUTE 'DEALLOCATE ALL'; END$$"
    rename = "UPDATE tenants SET name = %s WHERE tenant_id = %s"
    with narrow.connection(tenant=tenant) as conn:
        conn.execute(rename, ("a", tenant))
    with pytest.raises(psycopg.errors.InvalidSqlStatementName):
        with narrow.connection(tenant=tenant) as conn:
            conn.execute(rename, ("b", tenant))
            conn.execute(hidden)
    for name in "cd":
        with narrow.connection(tenant=tenant) as again:
            assert again.execute(rename, (name, tenant)).rowcount == 1
        assert again is conn


@pytest.mark.parametrize("before", ["a refused COMMIT", "a last DROP", "a DROP"])
def test_what_is_prepared_anew_is_not_forgotten_at_once(laid_out, tenant, before):
    """What a transaction leaves to be forgotten takes nothing from those after it."""
    once = "CREATE TEMP TABLE once (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)"
    drop = Query("DROP TABLE IF EXISTS pg_temp.once", last=before == "a last DROP")
    rename = "UPDATE tenants SET name = %s WHERE tenant_id = %s"
    with Router(laid_out.catalog_conninfo(OPERATOR), pool_size=1) as router:

        def write(name):
            with router.connection(tenant=tenant) as conn:
                conn.execute(rename, (name, tenant), prepare=True)
            return conn

        conn = [write(name) for name in "ab"][-1]
        if before == "a refused COMMIT":
            with pytest.raises(psycopg.errors.UniqueViolation):
                with router.connection(tenant=tenant) as it:
                    it.execute(once)
                    it.execute("INSERT INTO pg_temp.once VALUES (1), (1)")
        else:
            router.run(lambda: every(drop), tenant=tenant)
        for name in "cdef":
            assert write(name) is conn
        with router.connection(tenant=tenant) as it:
            named = it.execute("SELECT name FROM tenants WHERE tenant_id = %s", (tenant,))
            assert named.fetchone() == ("f",)


def test_a_server_may_be_told_to_forget_what_is_prepared(narrow, tenant):
    """In the middle of a transaction that wrote: it commits, and so does the next."""
    for name in "ab":
        with narrow.connection(tenant=tenant) as conn:
            conn.execute("UPDATE tenants SET name = %s WHERE tenant_id = %s", (name, tenant))
            conn.execute("DEALLOCATE ALL")
        assert conn.told_xid.isdigit()
    with narrow.connection(tenant=tenant) as conn:
        assert conn.execute("SELECT name FROM tenants").fetchone() == ("b",)


@pytest.mark.direct("looks for statements by the router's names, and a pooler gives its own")
def test_a_look_at_all_shards_leaves_what_is_prepared(narrow, tenant):
    """The connections that it uses are those of everybody else."""
    kept = "SELECT count(*) FROM pg_prepared_statements WHERE name = ANY (%s)"

    def prepared():
        with narrow.connection(tenant=tenant) as conn:
            names = [it.decode() for it in conn.statements._names.values()]
            return conn.execute(kept, (names,), prepare=True).fetchone()[0]

    for _ in range(2):
        before = prepared()
    narrow.sweep(["default"])
    assert prepared() == before > 0


@pytest.mark.direct("a pooler's server is asked where it stands within each transaction")
def test_a_read_on_a_replica_takes_one_round_trip(narrow, tenant, tmp_path):
    """Once the sampler has asked the server that the connection leads to; COMMIT is not awaited."""
    read = Stale(seconds=60, otherwise="wait", wait=timedelta(seconds=20))
    with narrow.connection(tenant=tenant, read=read) as conn:
        pass
    until_asked(narrow, tenant, conn)
    # The answer to the COMMIT before would be in the trace, too.
    until(lambda: not conn.ended and conn.parted)
    with narrow.connection(tenant=tenant, read=read) as conn:
        with traced(conn, tmp_path / "trace") as told:
            conn.execute("SELECT %s::int", (1,))
        assert conn.receipt.role == "replica"
    count, asked = round_trips(told)
    assert count == 1
    assert asked[0] == "BEGIN READ ONLY"


def test_an_agents_tenant_is_found_before_its_first_statement(narrow, tenant, tmp_path):
    """The first call by an id takes a message more, and later ones know the tenant."""
    agent = mint_agent_id(tenant)
    with narrow.connection(tenant=tenant) as conn:
        conn.execute(
            "INSERT INTO agents (tenant_id, id, name) VALUES (%s, %s, 'a')", (tenant, agent)
        )
    asked = []
    for trips in (3, 2):
        with traced(conn, tmp_path / "trace") as told, narrow.connection(agent=agent) as it:
            it.execute(ONE)
        count, queries = round_trips(told)
        assert count == trips
        asked.append(queries)
    assert f"WHERE id = '{agent}'" in asked[0][0]
    assert asked[1][-2:] == [ONE, "COMMIT"]


WHOSE = "SELECT current_setting('tenantry.tenant', true)"


def in_savepoint(conn):
    with conn.transaction():
        return conn.execute(WHOSE).fetchone()[0]


def in_pipeline(conn):
    with conn.pipeline():
        cursor = conn.execute(WHOSE)
    return cursor.fetchone()[0]


def on_the_server(conn):
    with conn.cursor("named") as cursor:
        return cursor.execute(WHOSE).fetchone()[0]


def copied(conn):
    with conn.cursor().copy(f"COPY ({WHOSE}) TO STDOUT") as copy:
        ((tenant,),) = copy.rows()
        return tenant


def streamed(conn):
    ((tenant,),) = conn.cursor().stream(WHOSE)
    return tenant


def many(conn):
    cursor = conn.cursor()
    cursor.executemany(f"{WHOSE}, %s", [(1,), (2,)], returning=True)
    return cursor.fetchone()[0]


@pytest.mark.parametrize("way", [in_savepoint, in_pipeline, on_the_server, copied, streamed, many])
def test_whatever_comes_first_is_routed(router, tenant, way):
    """No way of asking goes past what opens the transaction, or opens another one."""
    with router.connection(tenant=tenant) as conn:
        assert way(conn) == str(tenant)
        assert conn.execute(WHOSE).fetchone() == (str(tenant),)
        assert conn.info.transaction_status == TransactionStatus.INTRANS
    with router.connection(tenant=tenant) as conn:
        pass
    assert conn.info.transaction_status == TransactionStatus.IDLE


async def test_whatever_comes_first_is_routed_for_the_async_door(laid_out, tenant):
    """Where its methods are its own."""
    async with AsyncRouter(laid_out.catalog_conninfo()) as router:
        async with router.connection(tenant=tenant) as conn, conn.transaction():
            assert await (await conn.execute(WHOSE)).fetchone() == (str(tenant),)
        async with router.connection(tenant=tenant) as conn:
            async with conn.pipeline():
                cursor = await conn.execute(WHOSE)
            assert await cursor.fetchone() == (str(tenant),)


CHANGES = {
    "autocommit": lambda conn: conn.set_autocommit(False),
    "isolation": lambda conn: conn.set_isolation_level(IsolationLevel.SERIALIZABLE),
    "two-phase": lambda conn: conn.tpc_begin("it"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_the_transaction_is_the_routers(router, tenant, change):
    """What would change how the connection begins is refused before its first statement, too."""
    with pytest.raises(psycopg.ProgrammingError), router.connection(tenant=tenant) as conn:
        change(conn)
    with router.connection(tenant=tenant) as conn:
        assert conn.execute("SHOW transaction_isolation").fetchone() == ("read committed",)
        assert conn.execute(WHOSE).fetchone() == (str(tenant),)


@pytest.mark.parametrize("between", [0, 1])
def test_a_transaction_may_be_characterised_first(narrow, tenant, between):
    """Nothing that opens it has taken a snapshot, also when it is prepared and after another."""
    for _ in range(8):
        with narrow.connection(tenant=tenant) as conn:
            conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            assert conn.execute("SHOW transaction_isolation").fetchone() == ("repeatable read",)
        for _ in range(between):
            with narrow.connection(tenant=tenant) as conn:
                conn.execute(ONE)


AGENT = "INSERT INTO agents (tenant_id, id, name) VALUES (%s, %s, 'a')"


def test_a_commit_within_a_pipeline_has_happened(narrow, router, tenant):
    """When it returns; a failure before it is told there."""
    with narrow.connection(tenant=tenant) as conn, conn.pipeline():
        conn.execute(AGENT, (tenant, mint_agent_id(tenant)))
        conn.commit()
        with router.connection(tenant=tenant) as other:
            assert other.execute("SELECT count(*) FROM agents").fetchone() == (1,)
    with pytest.raises(psycopg.errors.NotNullViolation):
        with narrow.connection(tenant=tenant) as conn, conn.pipeline():
            conn.execute(AGENT, (tenant, None))
            conn.commit()


def test_what_opened_alone_costs_the_next_nothing(narrow, tenant, tmp_path):
    """A last statement travels with its COMMIT again, also behind a pooler."""
    with narrow.connection(tenant=tenant) as conn:
        conn.execute(ALONE)
    with traced(conn, tmp_path / "trace") as told:
        narrow.run(lambda: every(Query("SELECT %s::int", (1,), last=True)), tenant=tenant)
    count, asked = round_trips(told)
    assert count == 2
    assert [asked[0], asked[-1]] == ["BEGIN", "COMMIT"]


@pytest.mark.parametrize("values", [None, (0,)])
def test_a_first_statement_may_fail(router, tenant, values):
    """The error is its own, the transaction has failed, and the connection goes on serving."""
    divided = "SELECT 1/0" if values is None else "SELECT 1/%s"
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        with router.connection(tenant=tenant) as conn:
            with pytest.raises(psycopg.errors.DivisionByZero):
                conn.execute(divided, values)
            assert conn.info.transaction_status == TransactionStatus.INERROR
    with router.connection(tenant=tenant) as conn:
        assert conn.execute(WHOSE).fetchone() == (str(tenant),)


def test_values_that_cannot_be_sent_leave_the_transaction_to_be_opened(router, tenant):
    """They are refused before anything goes out."""
    with router.connection(tenant=tenant) as conn:
        with pytest.raises(psycopg.DataError):
            conn.execute("SELECT %s", ("\0",))
        assert copied(conn) == str(tenant)
