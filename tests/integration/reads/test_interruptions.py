"""Reads that a replica or its session cut short, in the middle or at their COMMIT."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from fix_router import until_asked
from reading import (
    COUNT,
    LENIENT,
    add_agent,
    backend_of,
    count,
    on_replica,
    shard_of,
    terminating,
    until_replayed,
)

from tenantry import AsyncRouter, AtLeast, DeadlineExceeded, Query, ReadInterrupted, Receipt, Stale
from tenantry_schema.naming import SHARD_DATABASE
from tenantry_schema.query import every


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


@pytest.mark.direct("a pooler's server may be another one for each call, so none follows at once")
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


@pytest.mark.direct("a pooler's replica says itself where it stands, before the first statement")
def test_a_last_read_may_follow_before_a_commit_is_answered(narrow, tenant):
    """It takes in that answer, and leaves none to take in itself."""
    until_replayed(narrow, tenant, add_agent(narrow, tenant))
    with narrow.connection(tenant=tenant, read=LENIENT) as conn:
        until_asked(narrow, tenant, conn)
    for _ in range(8):
        with narrow.connection(tenant=tenant, read=LENIENT) as conn:
            conn.execute(COUNT, (tenant,))
        assert conn.parting
        assert narrow.run(lambda: count(tenant, last=True), tenant=tenant, read=LENIENT) == 1
        assert not conn.parting


@pytest.mark.direct("a pooler's replica says itself where it stands, before the first statement")
async def test_a_last_read_that_is_cancelled_leaves_nothing_behind(laid_out, router, tenant):
    """The next call on its connection has a transaction of several statements."""
    until_replayed(router, tenant, add_agent(router, tenant))
    async with AsyncRouter(laid_out.catalog_conninfo(), pool_size=1) as narrow:
        async with narrow.connection(tenant=tenant, read=LENIENT) as conn:
            until_asked(narrow, tenant, conn)
        async with narrow.connection(tenant=tenant, read=LENIENT) as conn:
            await conn.execute(COUNT, (tenant,))
        pid = conn.info.backend_pid
        sleep = Query("SELECT pg_sleep(%s)", (60,), last=True)
        begun = time.monotonic()
        try:
            async with asyncio.timeout(0.2):
                await narrow.run(lambda: every(sleep), tenant=tenant, read=LENIENT)
        except TimeoutError:
            assert time.monotonic() - begun < 30
            # Its traceback is still there, and whatever that holds.
            async with narrow.connection(tenant=tenant, read=LENIENT) as conn:
                for _ in range(2):
                    cursor = await conn.execute(COUNT, (tenant,))
                    assert await cursor.fetchone() == (1,)
            # It was cancelled, so nobody had to connect anew.
            assert conn.info.backend_pid == pid
        else:
            raise AssertionError("it was not cancelled")


@pytest.mark.direct("a pooler has the sessions between two calls, and sees them end itself")
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
