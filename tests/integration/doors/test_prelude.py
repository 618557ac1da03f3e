"""Routing saves a round trip: what goes over the wire, as libpq traces it."""

from __future__ import annotations

from datetime import timedelta

import psycopg
import pytest
from fix_router import until, until_asked
from psycopg import IsolationLevel
from psycopg.pq import TransactionStatus
from sqlalchemy import text
from wire import round_trips, traced

from tenantry import AsyncRouter, Query, Router, Stale, mint_agent_id
from tenantry_schema.query import every

ONE = "SELECT 1"
#: A statement that may not travel with what opens its transaction.
ALONE = "SELECT 1; SELECT 2"


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
