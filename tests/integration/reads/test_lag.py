"""A replica that lags behind does not answer: what a caller said is done instead."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from reading import add_agent, count, no_replay, shard_of, until_older
from sqlalchemy import text

from tenantry import AtLeast, Receipt, Stale, TooStale


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
