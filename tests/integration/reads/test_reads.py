"""Declared reads on real replicas: who answers, how old at most, and what is refused."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest
from fix_router import until_asked
from sqlalchemy import func, select, text

from tenantry import (
    AsyncRouter,
    AtLeast,
    DeadlineExceeded,
    InvalidToken,
    Query,
    ReadInterrupted,
    Receipt,
    Router,
    Stale,
    Token,
    TokenLost,
    TooStale,
    mint_agent_id,
)
from tenantry.errors import InvalidInput, ShardUnavailable
from tenantry.map import Node, Shard
from tenantry.replicas.news import wait_for_news
from tenantry.replicas.sampler import Sampler
from tenantry_schema.models import Agent
from tenantry_schema.naming import SHARD_DATABASE

AGENT = "INSERT INTO agents (tenant_id, id, name) VALUES (%s, %s, 'a')"
COUNT = "SELECT count(*) FROM agents WHERE tenant_id = %s"
LENIENT = Stale(seconds=60, otherwise="wait", wait=timedelta(seconds=20))


def shard_of(fleet, router, tenant):
    name = router.map.shards[router.where(tenant=tenant).shard].name
    return next(it for it in fleet.shards if it.name == name)


def add_agent(router, tenant):
    """Write one row, and return where it stands."""
    with router.session(tenant=tenant, token=True) as session:
        session.add(Agent(tenant_id=tenant, id=mint_agent_id(tenant), name="a"))
    return session.token


@contextmanager
def no_replay(fleet, shard):
    """Let a shard's replica fall behind."""
    conninfo = fleet.superuser_conninfo(shard.replicas[0], SHARD_DATABASE)
    with psycopg.connect(conninfo, autocommit=True) as conn:
        conn.execute("SELECT pg_wal_replay_pause()")
        try:
            yield conn
        finally:
            conn.execute("SELECT pg_wal_replay_resume()")


def on_replica(fleet, shard, receipt):
    (server,) = shard.replicas
    # A pooler's entry for a node has its name.
    known = f":{server.port}/" in receipt.node or receipt.node.endswith(f"/{server.name}")
    return receipt.role == "replica" and known


def test_a_stale_read_is_answered_by_a_replica(laid_out, router, tenant):
    """In every form; the receipt says by whom, and how old at most."""
    shard = shard_of(laid_out, router, tenant)
    token = add_agent(router, tenant)
    wait = AtLeast(token, otherwise="wait", wait=timedelta(seconds=20))
    with router.session(tenant=tenant, read=wait) as session:
        assert session.scalar(select(func.count()).where(Agent.tenant_id == tenant)) == 1
    assert on_replica(laid_out, shard, session.receipt)
    with router.connection(tenant=tenant, read=LENIENT) as conn:
        receipt = conn.receipt
        assert conn.execute(COUNT, (tenant,)).fetchone() == (1,)
    assert on_replica(laid_out, shard, receipt)
    assert 0 < receipt.bound_ms < 60_000
    assert receipt.map_version == router.map.version
    assert not receipt.fallback
    receipt = Receipt()
    assert router.run(lambda: count(tenant), tenant=tenant, read=LENIENT, receipt=receipt) == 1
    assert on_replica(laid_out, shard, receipt)


def count(tenant):
    rows = yield Query(COUNT, (tenant,))
    return rows[0][0]


async def test_the_async_door_reads_as_the_sync_one(laid_out, router, tenant):
    """Session, connection and run."""
    shard = shard_of(laid_out, router, tenant)
    async with AsyncRouter(laid_out.catalog_conninfo()) as door:
        async with door.session(tenant=tenant, token=True) as session:
            session.add(Agent(tenant_id=tenant, id=mint_agent_id(tenant), name="a"))
        wait = AtLeast(session.token, otherwise="wait", wait=timedelta(seconds=20))
        async with door.session(tenant=tenant, read=wait) as session:
            assert len((await session.scalars(select(Agent))).all()) == 1
        assert on_replica(laid_out, shard, session.receipt)
        async with door.connection(tenant=tenant, read=LENIENT) as conn:
            receipt = conn.receipt
            assert await (await conn.execute(COUNT, (tenant,))).fetchone() == (1,)
        assert on_replica(laid_out, shard, receipt)
        receipt = Receipt()
        assert await door.run(lambda: count(tenant), tenant=tenant, read=wait, receipt=receipt) == 1
        assert on_replica(laid_out, shard, receipt)


def test_your_own_writes_are_always_read(router, tenant):
    """Whoever answers, nothing that the token stands for is missing; and replicas do answer."""
    roles = set()
    for number in range(1, 101):
        token = str(add_agent(router, tenant))
        with router.session(tenant=tenant, read=AtLeast(token)) as session:
            assert session.scalar(text("SELECT count(*) FROM agents")) == number
        roles.add(session.receipt.role)
    assert "replica" in roles


def test_an_agents_id_is_enough_on_a_replica(router, tenant):
    """The replica finds the tenant, too; an agent that it does not know yet is the primary's."""
    agent = mint_agent_id(tenant)
    with router.connection(tenant=tenant, token=True) as conn:
        conn.execute(AGENT, (tenant, agent))
        receipt = conn.receipt
    wait = AtLeast(receipt.token, otherwise="wait", wait=timedelta(seconds=20))
    with router.connection(agent=agent, read=wait) as conn:
        assert conn.receipt.role == "replica"
        row = conn.execute("SELECT tenant_id FROM agents").fetchone()
    assert row == (tenant,)


def test_a_replica_that_lags_does_not_answer(laid_out, router, tenant):
    """Its bound grows until nobody may promise what was declared; the caller said what then."""
    shard = shard_of(laid_out, router, tenant)
    # How old a replica is cannot be known from before the first sample.
    add_agent(router, tenant)
    until_older(router, tenant, shard, seconds=0)
    with no_replay(laid_out, shard):
        token = add_agent(router, tenant)
        with router.session(tenant=tenant, read=AtLeast(token)) as session:
            assert session.scalar(text("SELECT count(*) FROM agents")) == 2
        assert (session.receipt.role, session.receipt.fallback) == ("primary", True)
        with pytest.raises(TooStale, match="can promise the token"):
            router.run(lambda: count(tenant), tenant=tenant, read=AtLeast(token, otherwise="error"))
        short = AtLeast(token, otherwise="wait", wait=timedelta(milliseconds=300))
        with pytest.raises(TooStale), router.session(tenant=tenant, read=short):
            pass
        until_older(router, tenant, shard, seconds=1.0)
        with pytest.raises(TooStale, match="ms old at most"):
            read = Stale(seconds=1, otherwise="error")
            with router.session(tenant=tenant, read=read):
                pass
        with router.session(tenant=tenant, read=Stale(seconds=60)) as session:
            assert session.scalar(text("SELECT count(*) FROM agents")) <= 1
        assert session.receipt.bound_ms > 1000
    counted = router.stats()["reads"]
    assert counted["at_least"]["refused"] >= 2
    assert counted["stale"]["refused"] >= 1
    assert counted["stale"]["replica"] >= 1


def test_reads_are_counted_by_policy_and_outcome(laid_out, router, tenant):
    """Each once, with what served it."""
    shard = shard_of(laid_out, router, tenant)
    token = add_agent(router, tenant)
    until_replayed(router, tenant, token)
    never = Stale(seconds=1e-6)
    with Router(laid_out.catalog_conninfo()) as counting:

        def read(policy):
            with counting.session(tenant=tenant, read=policy) as session:
                session.execute(text("SELECT 1"))
            return counting.stats()["reads"]

        assert read(None) == {"fresh": {"primary": 1}, "stale": {}, "at_least": {}}
        assert read(LENIENT)["stale"] == {"replica": 1}
        assert read(never)["stale"] == {"replica": 1, "primary": 1}
        assert read(AtLeast(token, otherwise="wait"))["at_least"] == {"replica": 1}
        with no_replay(laid_out, shard):
            newer = add_agent(router, tenant)
            assert read(AtLeast(newer))["at_least"] == {"replica": 1, "primary": 1}
            with pytest.raises(TooStale):
                read(AtLeast(newer, otherwise="error"))
        assert counting.stats()["reads"] == {
            "fresh": {"primary": 1},
            "stale": {"replica": 1, "primary": 1},
            "at_least": {"replica": 1, "primary": 1, "refused": 1},
        }


def until_older(router, tenant, shard, seconds):
    """Wait until the sampler knows a replica to be older than so much."""
    watch = router._sampler.watch(router.map.shards[router.where(tenant=tenant).shard])
    name = shard.replicas[0].name
    for _ in range(400):
        known = router.stats()["shards"][shard.name]["replicas"]
        if known.get(name) is not None and known[name] > seconds * 1000:
            return
        wait_for_news(watch, 0.1)
    raise AssertionError(known)


def test_what_no_replica_can_promise_is_refused(laid_out, router, door, tenant):
    """At once or after the wait that was declared, by token and by age."""
    add_agent(router, tenant)
    short = {"otherwise": "wait", "wait": timedelta(milliseconds=200)}
    with no_replay(laid_out, shard_of(laid_out, router, tenant)):
        token = add_agent(router, tenant)
        for read in (
            AtLeast(token, otherwise="error"),
            AtLeast(token, **short),
            Stale(seconds=1e-6, otherwise="error"),
        ):
            with pytest.raises(TooStale):
                door.run(lambda: count(tenant), tenant=tenant, read=read)
        receipt = Receipt()
        read = AtLeast(token)
        assert door.run(lambda: count(tenant), tenant=tenant, read=read, receipt=receipt) == 2
    assert (receipt.role, receipt.fallback) == ("primary", True)


def test_waiting_ends_when_the_replica_has_caught_up(laid_out, router, tenant):
    """The caller is woken by the sampler's news."""
    shard = shard_of(laid_out, router, tenant)
    with no_replay(laid_out, shard) as superuser:
        token = add_agent(router, tenant)
        resume = threading.Timer(0.4, superuser.execute, ["SELECT pg_wal_replay_resume()"])
        resume.start()
        wait = AtLeast(token, otherwise="wait", wait=timedelta(seconds=20))
        with router.session(tenant=tenant, read=wait) as session:
            assert session.scalar(text("SELECT count(*) FROM agents")) == 1
        resume.join()
    assert session.receipt.role == "replica"
    assert session.receipt.waited_ms > 100


WAITING = """
SELECT count(*) FROM pg_stat_activity
WHERE state = 'active' AND query LIKE '%WAIT FOR LSN%' AND pid <> pg_backend_pid()
"""


def test_a_replica_that_knows_how_waits_itself(laid_out, router, tenant):
    """From Postgres 19 on: it answers as soon as it has replayed, without being asked again."""
    shard = shard_of(laid_out, router, tenant)
    wait = {"otherwise": "wait", "wait": timedelta(seconds=20)}
    with no_replay(laid_out, shard) as superuser, ThreadPoolExecutor() as pool:
        token = add_agent(router, tenant)
        reading = pool.submit(
            router.run, lambda: count(tenant), tenant=tenant, read=AtLeast(token, **wait)
        )
        knows_how = superuser.info.server_version >= 190000
        seen = []
        while not reading.done() and len(seen) < 20:
            seen.append(superuser.execute(WAITING).fetchone()[0])
            superuser.execute("SELECT pg_sleep(0.05)")
        superuser.execute("SELECT pg_wal_replay_resume()")
        assert reading.result() == 1
    assert any(seen) is knows_how


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


@pytest.mark.parametrize("statement", WRITES)
@pytest.mark.parametrize("where", ["replica", "primary"])
@pytest.mark.usefixtures("writing_functions")
def test_a_declared_read_cannot_write(router, tenant, statement, where):
    """Postgres itself refuses, on the primary that answers instead as well."""
    wait = AtLeast(add_agent(router, tenant), otherwise="wait", wait=timedelta(seconds=20))
    read = wait if where == "replica" else Stale(seconds=1e-6)
    with pytest.raises(psycopg.Error) as refused, router.connection(tenant=tenant, read=read) as it:
        assert it.receipt.role == where
        it.execute(statement)
    # A statement of COPY … FROM is refused under row-level security before it may write.
    expected = {"25006", "0A000"} if statement.startswith("COPY") else {"25006"}
    assert refused.value.sqlstate in expected


def test_a_read_that_met_a_recovery_conflict_is_read_again(laid_out, router, door, tenant):
    """The replica ends it because replay needs the lock; the primary gives the answer."""
    shard = shard_of(laid_out, router, tenant)
    token = add_agent(router, tenant)
    schema = router.where(tenant=tenant).schema
    replica = laid_out.superuser_conninfo(shard.replicas[0], SHARD_DATABASE)
    primary = laid_out.superuser_conninfo(shard.primary, SHARD_DATABASE)
    tries = []

    def work():
        rows = yield Query(COUNT, (tenant,))
        tries.append(1)
        if len(tries) == 1:
            with psycopg.connect(primary) as conn:
                conn.execute(f"LOCK TABLE {schema}.agents IN ACCESS EXCLUSIVE MODE")
            yield Query("SELECT pg_sleep(20)")
        return rows[0][0]

    with psycopg.connect(replica, autocommit=True) as conn:
        conn.execute("ALTER SYSTEM SET max_standby_streaming_delay = '50ms'")
        conn.execute("SELECT pg_reload_conf()")
        try:
            receipt = Receipt()
            until_replayed(door, tenant, token)
            assert door.run(work, tenant=tenant, read=AtLeast(token), receipt=receipt) == 1
        finally:
            conn.execute("ALTER SYSTEM RESET max_standby_streaming_delay")
            conn.execute("SELECT pg_reload_conf()")
    assert len(tries) == 2
    assert (receipt.role, receipt.fallback) == ("primary", True)
    assert door.stats()["reads"]["at_least"]["interrupted"] >= 1


CANCEL = """
SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE pid = %s AND wait_event = 'PgSleep'
"""


def test_a_read_that_was_cancelled_on_the_replica_is_read_again(laid_out, router, door, tenant):
    """A superuser there sends what replay sends as well (57014); the primary gives the answer."""
    shard = shard_of(laid_out, router, tenant)
    until_replayed(door, tenant, add_agent(router, tenant))
    # A router that has just begun knows of no replica that has what its first sample shows.
    door.run(lambda: count(tenant), tenant=tenant, read=LENIENT)
    tries = []

    def cancel(pid):
        # Not for ever: what went to the primary is not to be seen on the replica.
        for _ in range(1000):
            if superuser.execute(CANCEL, (pid,)).fetchone() is not None:
                return
            superuser.execute("SELECT pg_sleep(0.01)")

    def work():
        ((pid,),) = yield Query("SELECT pg_backend_pid()")
        tries.append(pid)
        if len(tries) == 1:
            cancelling = pool.submit(cancel, pid)
            try:
                yield Query("SELECT pg_sleep(20)")
            finally:
                cancelling.result()
        return (yield from count(tenant))

    replica = laid_out.superuser_conninfo(shard.replicas[0], SHARD_DATABASE)
    before = door.stats()["reads"]["stale"].get("interrupted", 0)
    with psycopg.connect(replica, autocommit=True) as superuser, ThreadPoolExecutor() as pool:
        receipt = Receipt()
        read = Stale(seconds=60)
        assert door.run(work, tenant=tenant, read=read, receipt=receipt) == 1
    assert len(tries) == 2
    assert (receipt.role, receipt.fallback) == ("primary", True)
    assert door.stats()["reads"]["stale"]["interrupted"] == before + 1


def backend_of(conn):
    return conn.execute("SELECT pg_backend_pid()").fetchone()[0]


def test_a_read_whose_commit_is_not_answered_has_no_unknown_outcome(
    laid_out, router, tenant, freeze
):
    """It could write nothing: it was interrupted, or ended by its deadline."""
    shard = shard_of(laid_out, router, tenant)
    until_replayed(router, tenant, add_agent(router, tenant))
    with terminating(laid_out, shard) as terminate, pytest.raises(ReadInterrupted):
        with router.session(tenant=tenant, read=LENIENT) as session:
            terminate(backend_of(session.connection().connection))
    with pytest.raises(DeadlineExceeded):
        with router.session(tenant=tenant, read=LENIENT, deadline=1) as session:
            freeze(backend_of(session.connection().connection))


def test_a_read_on_a_replica_does_not_wait_for_its_commit(laid_out, narrow, tenant, freeze):
    """What it read it has; whoever comes next is not kept waiting by a server that is gone."""
    shard = shard_of(laid_out, narrow, tenant)
    until_replayed(narrow, tenant, add_agent(narrow, tenant))
    with terminating(laid_out, shard) as terminate:
        with narrow.connection(tenant=tenant, read=LENIENT) as conn:
            terminate(backend_of(conn))
    assert narrow.run(lambda: count(tenant), tenant=tenant, read=LENIENT) == 1
    with narrow.connection(tenant=tenant, read=LENIENT) as conn:
        assert on_replica(laid_out, shard, conn.receipt)
        freeze(backend_of(conn))
    # As if that had been a while ago.
    conn.parting_since -= 1
    assert narrow.run(lambda: count(tenant), tenant=tenant, read=LENIENT) == 1


@pytest.mark.direct
def test_the_next_call_may_follow_before_a_commit_is_answered(narrow, tenant, freeze):
    """What opens it is sent at once, answered later, and belongs to it alone."""
    until_replayed(narrow, tenant, add_agent(narrow, tenant))
    with narrow.connection(tenant=tenant, read=LENIENT) as conn:
        pid = backend_of(conn)
    until_asked(narrow, tenant, conn)
    with narrow.connection(tenant=tenant, read=LENIENT) as conn:
        assert backend_of(conn) == pid
        freeze(pid)
    # As if it were now, however slow this machine is.
    conn.parting_since += 10
    threading.Timer(0.1, os.kill, (pid, signal.SIGCONT)).start()
    with narrow.connection(tenant=tenant, read=LENIENT) as conn:
        assert conn.parting
        assert conn.execute(COUNT, (tenant,)).fetchone() == (1,)
        assert backend_of(conn) == pid


@pytest.mark.direct
@pytest.mark.parametrize("seen", [True, False])
def test_a_session_that_ended_after_its_commit_costs_the_next_call_a_try(
    laid_out, narrow, tenant, seen
):
    """It tells nothing of its server: the same replica answers over another connection."""
    shard = shard_of(laid_out, narrow, tenant)
    until_replayed(narrow, tenant, add_agent(narrow, tenant))
    with narrow.connection(tenant=tenant, read=LENIENT) as conn:
        pid = backend_of(conn)
    until_asked(narrow, tenant, conn)
    with terminating(laid_out, shard) as terminate:
        with narrow.connection(tenant=tenant, read=LENIENT) as conn:
            assert backend_of(conn) == pid
        terminate(pid)
    # As if it were now, or a while ago: then it is looked at before.
    conn.parting_since += -10 if seen else 10
    receipt, strict = Receipt(), Stale(seconds=60, otherwise="error")
    assert narrow.run(lambda: count(tenant), tenant=tenant, read=strict, receipt=receipt) == 1
    assert on_replica(laid_out, shard, receipt)
    interrupted = narrow.stats()["reads"]["stale"].get("interrupted", 0)
    assert interrupted == (0 if seen else 1)


@contextmanager
def terminating(fleet, shard):
    """Give what ends a session of a shard's replica."""
    replica = fleet.superuser_conninfo(shard.replicas[0], SHARD_DATABASE)
    with psycopg.connect(replica, autocommit=True) as superuser:
        yield lambda pid: superuser.execute("SELECT pg_terminate_backend(%s, 20000)", (pid,))


def until_replayed(router, tenant, token):
    """Wait until a replica shows what the token stands for."""
    wait = AtLeast(token, otherwise="wait", wait=timedelta(seconds=20))
    router.run(lambda: count(tenant), tenant=tenant, read=wait)


def test_tokens_that_are_no_good(router, door, tenant):
    """Another fleet's, another shard's number, and a place that was never written."""
    token = add_agent(router, tenant)
    for wrong, why in (
        (replace(token, system=token.system + 1), "another fleet"),
        (replace(token, shard=99), "does not have"),
        (replace(token, lsn=token.lsn + 2**40), "has not reached"),
    ):
        with pytest.raises(InvalidToken, match=why):
            door.run(lambda: count(tenant), tenant=tenant, read=AtLeast(wrong))


def test_a_token_of_the_shard_that_the_tenant_has_left(router, door, tenant):
    """It means the primary, once that shard's history confirms that it stands for something."""
    token = add_agent(router, tenant)
    other = next(it for it in router.map.shards.values() if it.id != token.shard)
    watch = door._sampler.watch(other)
    while not watch.state.settled:
        wait_for_news(watch, 1.0)
    receipt = Receipt()
    moved = AtLeast(Token(other.id, watch.state.system, 1, 2**60), otherwise="error")
    assert door.run(lambda: count(tenant), tenant=tenant, read=moved, receipt=receipt) == 1
    assert (receipt.role, receipt.fallback) == ("primary", True)
    for wrong, error in (
        (replace(moved.token, system=token.system), InvalidToken),
        (replace(moved.token, timeline=9), TokenLost),
    ):
        with pytest.raises(error):
            door.run(lambda: count(tenant), tenant=tenant, read=AtLeast(wrong))


def test_what_belongs_to_writes_is_refused_for_reads(router, tenant):
    """And a token that was not asked for is not there."""
    for wrong in ({"token": True}, {"operation": "x"}):
        with pytest.raises(InvalidInput, match="writes"):
            router.session(tenant=tenant, read=Stale(seconds=1), **wrong)
    with router.session(tenant=tenant) as session:
        session.execute(text("SELECT 1"))
    with pytest.raises(InvalidInput, match="token=True"):
        _ = session.token


def sampled(fleet, router, nodes):
    """Let a sampler look at some nodes, and return what it knows when it knows all."""
    sampler = Sampler(router.settings, router._follower.given)
    sampler.start()
    try:
        watch = sampler.watch(Shard(1, "mixed", tuple(nodes), fleet=router.map.fleet_id))
        for _ in range(100):
            if watch.state.settled:
                break
            wait_for_news(watch, 0.2)
        return watch.state
    finally:
        sampler.stop()


def node(server):
    return Node(server.name, server.host, server.port, SHARD_DATABASE)


def test_nodes_of_another_shard_have_no_say(laid_out, router):
    """Listed by mistake: they say themselves whose they are, beside the primary and without it."""
    first, second = laid_out.shards
    strangers = [node(second.primary), node(second.replicas[0])]
    state = sampled(laid_out, router, [node(first.primary), *strangers])
    assert state.primary.name == first.primary.name
    assert not state.split
    assert not state.replicas
    for name in (it.name for it in strangers):
        assert f"of fleet and shard {router.map.fleet_id}/2" in state.refused[name]
    state = sampled(laid_out, router, strangers)
    assert (state.primary, state.system) == (None, None)


@pytest.mark.direct
def test_nothing_is_written_on_another_shards_primary(laid_out, router, tenant):
    """Not even by a router whose catalog names nobody else."""
    mine = router.map.shards[router.where(tenant=tenant).shard]
    other = next(it for it in router.map.shards.values() if it is not mine)
    with Router(laid_out.catalog_conninfo(), acquire_timeout=1.0) as misled:
        misled.map.shards[mine.id] = replace(mine, nodes=other.nodes)
        with pytest.raises(ShardUnavailable, match=f"is of fleet and shard .*/{other.id}, not of"):
            add_agent(misled, tenant)
        with pytest.raises(TooStale, match=f"of fleet and shard .*/{other.id}"):
            read = Stale(seconds=60, otherwise="error")
            misled.run(lambda: count(tenant), tenant=tenant, read=read)


def test_a_node_that_is_not_there_is_named(laid_out, router):
    """With what the system said."""
    gone = Node("gone", laid_out.shards[0].primary.host, 1, SHARD_DATABASE)
    state = sampled(laid_out, router, [node(laid_out.shards[0].primary), gone])
    assert state.primary.name == laid_out.shards[0].primary.name
    assert "No such file" in state.refused["gone"]


def test_a_primary_that_takes_no_writes(laid_out, tenant):
    """A read-only primary is no primary: for connections that are there and for new ones."""
    with Router(laid_out.catalog_conninfo(), acquire_timeout=1.0) as router:
        shard = shard_of(laid_out, router, tenant)
        with router.session(tenant=tenant) as session:
            session.execute(text("SELECT 1"))
        conninfo = laid_out.superuser_conninfo(shard.primary)
        with psycopg.connect(conninfo, autocommit=True) as conn:
            conn.execute("ALTER SYSTEM SET default_transaction_read_only = on")
            conn.execute("SELECT pg_reload_conf()")
            try:
                with pytest.raises(ShardUnavailable, match=r"read-only|takes no writes"):
                    for _ in range(200):
                        add_agent(router, tenant)
            finally:
                conn.execute("ALTER SYSTEM RESET default_transaction_read_only")
                conn.execute("SELECT pg_reload_conf()")
        until_written(router, tenant)


def until_written(router, tenant):
    """Write as soon as the primary takes it again: every refusal is a clear one."""
    for _ in range(400):
        try:
            return add_agent(router, tenant)
        except ShardUnavailable:
            continue
    raise AssertionError("the primary takes no writes any more")
