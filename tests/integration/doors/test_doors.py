from __future__ import annotations

import threading
import time
from datetime import timedelta
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import select

from tenantry import (
    AsyncRouter,
    CatalogUnavailable,
    DeadlineExceeded,
    Fresh,
    InvalidKey,
    OutcomeUnknown,
    PartialResult,
    PoolExhausted,
    Query,
    Router,
    RouterClosed,
    ShardUnavailable,
    Stale,
    UnknownAgent,
    UnknownTenant,
    UnsupportedRead,
    mint_agent_id,
)
from tenantry.errors import InvalidInput
from tenantry_schema.models import Agent, Tenant
from tenantry_schema.naming import OPERATOR
from tenantry_schema.query import one

AGENT = "INSERT INTO agents (tenant_id, id, name) VALUES (%s, %s, %s)"


def name_of(tenant):
    rows = yield Query("SELECT name FROM tenants WHERE tenant_id = %s", (tenant,))
    return rows[0][0]


def test_a_session_commits_at_its_end_and_rolls_back_on_an_error(router, tenant):
    """What was written without an error is there; what met one is not."""
    first, second = mint_agent_id(tenant), mint_agent_id(tenant)
    with router.session(tenant=tenant) as session:
        session.add(Agent(tenant_id=tenant, id=first, name="kept"))
    with pytest.raises(ZeroDivisionError), router.session(tenant=tenant) as session:
        session.add(Agent(tenant_id=tenant, id=second, name="lost"))
        session.flush()
        raise ZeroDivisionError
    with router.session(agent=first) as session:
        assert session.scalars(select(Agent.name).where(Agent.tenant_id == tenant)).all() == [
            "kept"
        ]


def test_a_session_may_commit_and_go_on(router, tenant):
    """Every transaction of a session opens with the prelude."""
    with router.session(tenant=tenant) as session:
        for name in ("one", "two"):
            session.add(Agent(tenant_id=tenant, id=mint_agent_id(tenant), name=name))
            session.commit()
        with session.begin_nested():
            session.add(Agent(tenant_id=tenant, id=mint_agent_id(tenant), name="three"))
        assert len(session.scalars(select(Agent).where(Agent.tenant_id == tenant)).all()) == 3


def test_an_agents_id_is_enough(router, tenant):
    """The first call finds the agent's tenant in the same round trip; later ones know it."""
    agent = mint_agent_id(tenant)
    with router.connection(tenant=tenant) as conn:
        conn.execute(AGENT, (tenant, agent, "a"))
    for given in (agent, str(agent)):
        with router.connection(agent=given) as conn:
            row = conn.execute("SELECT current_setting('tenantry.tenant'), name FROM agents")
            assert row.fetchall() == [(str(tenant), "a")]


def test_an_unknown_agent_is_an_error(router, tenant):
    """Its bucket is found, the agent is not."""
    with pytest.raises(UnknownAgent), router.connection(agent=mint_agent_id(tenant)):
        pass
    with pytest.raises(UnknownAgent), router.session(agent=mint_agent_id(tenant)) as session:
        session.scalars(select(Agent.id)).all()


def test_an_unknown_tenant_is_refused_by_postgres(router):
    """A row for a tenant without a row of its own violates the foreign key."""
    nobody = uuid4()
    with pytest.raises(UnknownTenant), router.connection(tenant=nobody) as conn:
        conn.execute(AGENT, (nobody, mint_agent_id(nobody), "a"))
    with pytest.raises(UnknownTenant), router.session(tenant=nobody) as session:
        session.add(Agent(tenant_id=nobody, id=mint_agent_id(nobody), name="a"))


def test_run_drives_a_work(router, tenant):
    """A generator of queries gives its result."""
    assert router.run(lambda: name_of(tenant), tenant=tenant).startswith("t-")


def test_run_tries_again_what_was_rolled_back(router, tenant):
    """A serialization failure is run anew, in a new transaction."""
    tries = []

    def work():
        tries.append(1)
        if len(tries) < 3:
            yield Query("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40001'; END $$")
        rows = yield Query("SELECT 1")
        return rows

    assert router.run(work, tenant=tenant) == [(1,)]
    assert len(tries) == 3


def test_a_pause_that_outlasts_the_deadline_ends_with_the_error(router, tenant, monkeypatch):
    """A busy machine wakes late: what Postgres said is the answer then."""
    sleep = time.sleep
    monkeypatch.setattr("tenantry.router.time.sleep", lambda seconds: sleep(seconds + 0.4))

    def work():
        yield Query("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40001'; END $$")

    with pytest.raises(psycopg.errors.SerializationFailure):
        router.run(work, tenant=tenant, deadline=0.4)


def test_run_does_not_repeat_a_plain_error(router, tenant):
    """A caller's own mistake is the answer at once."""
    tries = []

    def work():
        tries.append(1)
        yield Query("SELECT 1 / 0")

    with pytest.raises(psycopg.errors.DivisionByZero):
        router.run(work, tenant=tenant)
    assert len(tries) == 1


def test_a_work_may_answer_an_error(router, tenant):
    """Errors are thrown into the generator; behind a savepoint it goes on."""

    def work():
        yield Query("SAVEPOINT here")
        try:
            yield Query("SELECT 1 / 0")
        except psycopg.errors.DivisionByZero:
            yield Query("ROLLBACK TO here")
        rows = yield Query("SELECT 2")
        return rows[0][0]

    assert router.run(work, tenant=tenant) == 2


def test_a_failed_transaction_is_not_committed_silently(router, tenant):
    """COMMIT of a failed transaction would roll back and return: that is an error here."""
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        with router.connection(tenant=tenant) as conn:
            with pytest.raises(psycopg.errors.DivisionByZero):
                conn.execute("SELECT 1 / 0")


def test_after_its_own_commit_a_connection_is_routed_nowhere(router, tenant):
    """No statement outside a routed transaction finds a table."""
    with router.connection(tenant=tenant) as conn:
        conn.commit()
        with pytest.raises(psycopg.errors.UndefinedTable):
            conn.execute("SELECT * FROM tenants")


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"tenant": uuid4(), "agent": mint_agent_id(uuid4())},
        {"tenant": 5},
        {"tenant": True},
        {"tenant": "x" * 1_000_000},
        {"tenant": "a\0b"},
        {"tenant": "'; DROP SCHEMA tenantry; --"},
        {"agent": "x"},
        {"agent": 7},
        {"agent": uuid4()},
        {"tenant": uuid4(), "deadline": 0},
        {"tenant": uuid4(), "deadline": "1"},
        {"tenant": uuid4(), "deadline": float("nan")},
        {"tenant": uuid4(), "deadline": True},
    ],
)
def test_bad_calls_are_refused_before_anything_happens(router, arguments):
    """Each has a named error, raised before a connection is taken."""
    with pytest.raises(InvalidInput):
        router.connection(**arguments)


def test_only_fresh_reads_are_known(router, tenant):
    """A read policy of a later version is refused by its name."""
    with router.connection(tenant=tenant, read=Fresh()) as conn:
        assert conn.execute("SELECT 1").fetchone() == (1,)
    with pytest.raises(UnsupportedRead, match="str"):
        router.session(tenant=tenant, read="stale")


def test_scatter_reads_every_shard(laid_out, tenant):
    """An operator's router sees all tenants, through the parents."""
    with Router(laid_out.catalog_conninfo(OPERATOR)) as operator:
        found = operator.scatter(Query("SELECT tenant_id FROM fleet.tenants"))
    assert found.complete
    assert set(found.rows) == {"shard-1", "shard-2"}
    assert (tenant,) in found.all()


def test_scatter_writes_nothing_and_the_application_sees_no_parent(router, laid_out):
    """It is a read-only transaction; parents are closed to the application."""
    with pytest.raises(PartialResult):
        router.scatter(Query("SELECT * FROM fleet.tenants"))
    with Router(laid_out.catalog_conninfo(OPERATOR)) as operator:
        failed = operator.scatter(Query("DELETE FROM fleet.tasks"), partial="accept").failed
    assert {type(it) for it in failed.values()} == {psycopg.errors.ReadOnlySqlTransaction}


@pytest.mark.parametrize("wanted", ["acccept", "ACCEPT", "", None, True, ["accept"]])
async def test_a_scatter_takes_no_other_word(laid_out, wanted):
    """A slip of the pen must not accept what is incomplete; nothing is asked of any shard."""
    one = Query("SELECT 1")
    with Router(laid_out.catalog_conninfo()) as fresh:
        with pytest.raises(InvalidInput, match=r'"refuse" or "accept", not ') as caught:
            fresh.scatter(one, partial=wanted)
        assert repr(wanted) in str(caught.value)
        assert fresh.stats()["pools"] == {}
    async with AsyncRouter(laid_out.catalog_conninfo()) as fresh:
        with pytest.raises(InvalidInput, match=r'"refuse" or "accept", not '):
            await fresh.scatter(one, partial=wanted)
        assert fresh.stats()["pools"] == {}


@pytest.mark.parametrize("door", ["connection", "session"])
def test_an_exhausted_pool_is_a_clear_error(laid_out, tenant, door):
    """The only connection is in use for longer than the caller waits, or may wait."""
    with Router(laid_out.catalog_conninfo(), pool_size=1, acquire_timeout=0.2) as small:
        with small.connection(tenant=tenant):
            with pytest.raises(PoolExhausted, match="pool_size"):
                with getattr(small, door)(tenant=tenant) as it:
                    it.connection()
        with small.session(tenant=tenant) as session:
            assert session.scalars(select(Tenant.tenant_id)).all() == [tenant]
    with Router(laid_out.catalog_conninfo(), pool_size=1, acquire_timeout=60) as patient:
        with patient.connection(tenant=tenant):
            with pytest.raises(PoolExhausted, match=r"in use for 0\.[23] s"):
                with getattr(patient, door)(tenant=tenant, deadline=0.2) as it:
                    it.connection()


@pytest.mark.parametrize("door", ["connection", "session"])
async def test_an_exhausted_pool_is_a_clear_error_in_the_async_door(laid_out, tenant, door):
    """The same bounds."""
    async with AsyncRouter(laid_out.catalog_conninfo(), pool_size=1, acquire_timeout=60) as small:
        async with small.connection(tenant=tenant):
            with pytest.raises(PoolExhausted, match="pool_size"):
                async with getattr(small, door)(tenant=tenant, deadline=0.2) as it:
                    await it.connection()
        async with small.session(tenant=tenant) as session:
            assert (await session.scalars(select(Tenant.tenant_id))).all() == [tenant]


def test_a_connection_that_its_user_closed_is_nobody_elses(laid_out, tenant):
    """It is closed for good, not lent to another call whose transaction this one would commit."""
    agent = mint_agent_id(tenant)
    with Router(laid_out.catalog_conninfo(), pool_size=1, acquire_timeout=0.2) as small:
        with pytest.raises(ShardUnavailable, match="nothing was committed"):
            with small.connection(tenant=tenant) as conn:
                conn.execute(AGENT, (tenant, agent, "a"))
                conn.close()
                with pytest.raises(PoolExhausted), small.connection(tenant=tenant):
                    pass
        with pytest.raises(UnknownAgent), small.connection(agent=agent):
            pass


def test_a_call_ends_at_its_deadline(router, tenant):
    """The socket is shut; nothing was committed, and the pool heals."""
    with pytest.raises(DeadlineExceeded), router.connection(tenant=tenant, deadline=0.3) as conn:
        conn.execute("SELECT pg_sleep(30)")
    with pytest.raises(DeadlineExceeded), router.session(tenant=tenant, deadline=0.3) as session:
        session.connection().exec_driver_sql("SELECT pg_sleep(30)")
    assert router.run(lambda: name_of(tenant), tenant=tenant)


async def test_a_deadline_that_ends_a_second_attempt_is_told_as_the_callers(
    router, laid_out, tenant
):
    """It names the seconds that the caller gave, not those that were left, and why it had begun."""
    fails = "DO $$BEGIN RAISE EXCEPTION 'once' USING ERRCODE = 'serialization_failure'; END$$"

    def attempts(statements):
        return lambda: one(Query(next(statements)))

    told = r"deadline of 0\.6 s; .* \(the attempt before: SerializationFailure, once\)"
    with pytest.raises(DeadlineExceeded, match=told):
        router.run(attempts(iter((fails, "SELECT pg_sleep(30)"))), tenant=tenant, deadline=0.6)
    async with AsyncRouter(laid_out.catalog_conninfo()) as other:
        with pytest.raises(DeadlineExceeded, match=told):
            await other.run(
                attempts(iter((fails, "SELECT pg_sleep(30)"))), tenant=tenant, deadline=0.6
            )


def test_a_lost_connection_is_told_as_not_committed(router, laid_out, tenant):
    """A session that the server ended before COMMIT changed nothing."""
    agent = mint_agent_id(tenant)
    shard = next(
        it
        for it in laid_out.shards
        if it.name == router.map.shards[router.where(tenant=tenant).shard].name
    )
    with pytest.raises(ShardUnavailable, match="nothing was committed"):
        with router.connection(tenant=tenant) as conn:
            conn.execute(AGENT, (tenant, agent, "a"))
            # Asked of the server: what a pooler tells the driver is made up.
            pid = conn.execute("SELECT pg_backend_pid()").fetchone()
            with psycopg.connect(laid_out.superuser_conninfo(shard.primary)) as killer:
                killer.execute("SELECT pg_terminate_backend(%s, 5000)", pid)
            conn.execute("SELECT 1")
    with pytest.raises(UnknownAgent), router.connection(agent=agent):
        pass


CALLS = {
    "map": lambda router, _: router.map,
    "where": lambda router, tenant: router.where(tenant=tenant),
    "reload": lambda router, _: router.reload(),
    "session": lambda router, tenant: router.session(tenant=tenant),
    "connection": lambda router, tenant: router.connection(tenant=tenant),
    "run": lambda router, tenant: router.run(lambda: name_of(tenant), tenant=tenant),
    "scatter": lambda router, _: router.scatter(Query("SELECT 1")),
    "sweep": lambda router, _: router.sweep(["default"]),
    "outcome": lambda router, tenant: router.outcome(OutcomeUnknown("?", tenant=str(tenant))),
    "tenant_of_agent": lambda router, _: router.tenant_of_agent("somebody"),
}


def test_every_call_of_the_doors_is_tried_on_a_closed_one():
    """Nothing public is left out below."""
    public = {name for name in dir(Router) if not name.startswith("_")}
    # What the doors use of each other, and what a closed router may be asked.
    inner = {
        "chosen",
        "direct",
        "explained",
        "give_back",
        "give_up",
        "lease",
        "lease_replica",
        "learn",
    }
    inner |= {"opened", "primary", "replica_patience", "replica_position", "shard_of", "told"}
    assert public - inner - {"open", "close", "stats"} == set(CALLS)


@pytest.mark.parametrize("call", CALLS)
def test_a_closed_router_says_so(laid_out, tenant, call):
    """Before it is opened and after it was closed."""
    closed = Router(laid_out.catalog_conninfo())
    with pytest.raises(RouterClosed, match="with Router"):
        CALLS[call](closed, tenant)
    with closed:
        closed.where(tenant=tenant)
    with pytest.raises(RouterClosed):
        CALLS[call](closed, tenant)


def test_a_router_may_be_opened_again(laid_out, tenant):
    """Everything of it starts anew: the map, replicas, and the deadlines."""
    again = Router(laid_out.catalog_conninfo())
    for _ in range(2):
        with again:
            stale = Stale(max_lag=timedelta(seconds=30))
            with again.connection(tenant=tenant, read=stale) as conn:
                assert conn.execute("SELECT 1").fetchone() == (1,)
            with pytest.raises(DeadlineExceeded):
                with again.connection(tenant=tenant, deadline=0.2) as conn:
                    conn.execute("SELECT pg_sleep(30)")


@pytest.mark.parametrize("call", CALLS)
async def test_a_closed_async_router_says_so(laid_out, tenant, call):
    """The same calls."""
    closed = AsyncRouter(laid_out.catalog_conninfo())
    for _ in range(2):
        with pytest.raises(RouterClosed):
            found = CALLS[call](closed, tenant)
            await found
        async with closed:
            closed.where(tenant=tenant)


def test_a_catalog_that_is_down_or_empty_is_a_clear_error(laid_out, database):
    """At the start there is no map to go on with."""
    with pytest.raises(CatalogUnavailable, match="does not answer"):
        Router("host=127.0.0.1 port=1 dbname=x user=y").open()
    with pytest.raises(CatalogUnavailable, match="tenantry init"):
        Router(database.app).open()


def test_threads_share_a_router(router, laid_out):
    """Many threads, one pool: each sees its own tenant only."""
    from fix_router import make_tenant

    tenants = [make_tenant(laid_out) for _ in range(4)]
    wrong = []

    def read(mine):
        for _ in range(25):
            with router.session(tenant=mine) as session:
                if session.scalars(select(Tenant.tenant_id)).all() != [mine]:
                    wrong.append(mine)

    threads = [threading.Thread(target=read, args=(it,)) for it in tenants]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


async def test_the_async_door_does_the_same(laid_out, tenant):
    """Sessions, connections, works, agents, deadlines and unknown tenants, with await."""
    agent, nobody = mint_agent_id(tenant), uuid4()
    async with AsyncRouter(laid_out.catalog_conninfo()) as router:
        async with router.connection(tenant=tenant) as conn:
            await conn.execute(AGENT, (tenant, agent, "a"))
        for _ in range(2):
            async with router.session(agent=agent) as session:
                assert (await session.scalars(select(Agent.name))).all() == ["a"]
        assert (await router.run(lambda: name_of(tenant), tenant=tenant)).startswith("t-")
        with pytest.raises(UnknownTenant):
            async with router.session(tenant=nobody) as session:
                session.add(Agent(tenant_id=nobody, id=mint_agent_id(nobody), name="a"))
        with pytest.raises(UnknownAgent):
            async with router.connection(agent=mint_agent_id(tenant)):
                pass
        with pytest.raises(DeadlineExceeded):
            async with router.connection(tenant=tenant, deadline=0.3) as conn:
                await conn.execute("SELECT pg_sleep(30)")
        with pytest.raises(InvalidKey):
            router.session(tenant=5)
    async with AsyncRouter(laid_out.catalog_conninfo(OPERATOR)) as operator:
        assert (tenant,) in (
            await operator.scatter(Query("SELECT tenant_id FROM fleet.tenants"))
        ).all()
