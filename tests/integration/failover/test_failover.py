"""Primaries that die on real servers: who takes over, what may be lost, and how they come back."""

from __future__ import annotations

import os
import signal
import time

import psycopg
import pytest
from fix_failover import (
    anywhere,
    findings,
    freeze,
    kill_at,
    last_said,
    lost,
    names,
    server,
    tenantry,
    writing,
)

from tenantry_ops.failover import FleetHands, failover, rewire
from tenantry_ops.failover.ask import stand
from tenantry_ops.failover.certify import certify
from tenantry_ops.failover.durability import declare
from tenantry_ops.failover.journal import FAILOVER, begun
from tenantry_schema.errors import FailoverRefused, InvalidConfig, UnknownNode
from tenantry_schema.naming import CATALOG_DATABASE, OPERATOR

pytestmark = pytest.mark.slow

SHARDS = ("shard-1", "shard-2")


@pytest.fixture(scope="module")
def fleet(own_fleet):
    """Two shards; the catalog lies on the first."""
    return own_fleet(shards=2)


@pytest.fixture
def catalog(fleet):
    return fleet.catalog_conninfo(OPERATOR)


@pytest.fixture
def hands(fleet):
    return FleetHands(fleet)


@pytest.fixture(autouse=True)
def healthy(fleet):
    """Leave every test with a healthy fleet."""
    yield
    found = findings(fleet)
    assert found == {}, last_said(fleet)


def roles(fleet, shard):
    return names(fleet, "primary", shard), names(fleet, "replica", shard)


def kill(fleet, shard):
    """End the primary of a shard by SIGKILL; return its name, and the other's."""
    (primary,), (other,) = roles(fleet, shard)
    os.kill(server(fleet, primary).pid, signal.SIGKILL)
    fleet._reap(server(fleet, primary))
    return primary, other


@pytest.mark.parametrize("shard", SHARDS)
def test_a_killed_primary_is_replaced_and_comes_back(fleet, catalog, hands, shard):
    """Also the one that held the catalog; what was written before is named, what after is kept."""
    place = SHARDS.index(shard)
    with writing(anywhere(fleet, place)) as writers:
        dead, other = kill(fleet, shard)
        done = failover(catalog, shard, hands=hands)
        assert done.primary == other
        assert "what was committed after" in done.loss
    assert roles(fleet, shard) == ([other], [])
    found = findings(fleet)
    assert "does not answer" in found.pop(f"node {dead}")
    assert found == {}
    # What the dead primary had acknowledged and not sent is lost with it, and nothing else.
    missing = lost(anywhere(fleet, place), writers)
    assert all(number <= len(writers[who].acknowledged) - 20 for who, number in missing)
    fleet.start_server(server(fleet, dead))
    assert roles(fleet, shard) == ([other], [dead])
    assert rewire(catalog, shard, dead, hands=hands).remaining == ()


@pytest.mark.parametrize("shard", SHARDS)
def test_two_nodes_lose_nothing(fleet, catalog, hands, shard):
    """An acknowledged commit survives the primary; a standby proven current needs no word."""
    place = SHARDS.index(shard)
    assert declare(catalog, shard, "two-nodes") == []
    try:
        with writing(anywhere(fleet, place)) as writers:
            dead, other = kill(fleet, shard)
            done = failover(catalog, shard, hands=hands)
            assert (done.primary, done.loss) == (other, "nothing acknowledged")
            assert "commits wait" in findings(fleet)[f"durability of {shard}"]
            rewire(catalog, shard, dead, hands=hands)
        assert lost(anywhere(fleet, place), writers) == set()
        assert "of shard" not in str(findings(fleet))
    finally:
        assert declare(catalog, shard, "local") == []


def test_a_promise_without_a_standby_is_a_finding_and_refuses(fleet, catalog, hands):
    """Exit code 1; a failover asks for the amount, and takes it by LSN."""
    with psycopg.connect(catalog, autocommit=True) as conn:
        conn.execute("UPDATE tenantry.shards SET durability = 'two-nodes' WHERE name = 'shard-2'")
    assert "is empty" in findings(fleet)["durability of shard-2"]
    ended = tenantry(fleet, "doctor", "--json")
    assert (ended.returncode, "synchronous_standby_names is empty" in ended.stdout) == (1, True)
    dead, other = kill(fleet, "shard-2")
    with pytest.raises(FailoverRefused, match="none is proven current") as refused:
        failover(catalog, "shard-2", hands=hands)
    lsn = str(refused.value).rsplit(" ", 1)[1]
    with pytest.raises(FailoverRefused, match="--accept-data-loss"):
        failover(catalog, "shard-2", hands=hands, accept="16MB")
    assert roles(fleet, "shard-2") == ([], [other])
    ended = tenantry(fleet, "shard", "failover", "shard-2", "--accept-data-loss", lsn)
    assert (ended.returncode, f"{other} is the primary" in ended.stdout) == (0, True), ended.stderr
    assert tenantry(fleet, "shard", "rewire", "shard-2", dead).returncode == 0
    declare(catalog, "shard-2", "local")


@pytest.mark.parametrize("shard", SHARDS)
def test_killed_before_each_step_and_run_again(fleet, catalog, hands, shard):
    """The same standby becomes primary, whichever step the first run ended before."""
    for step in range(1, 4):
        dead, other = kill(fleet, shard)
        kill_at(fleet, step, "failover", name=shard)
        done = failover(catalog, shard, to=other, hands=hands)
        assert done.primary == other
        assert begun(catalog, FAILOVER, shard) is None
        rewire(catalog, shard, dead, hands=hands)
        assert roles(fleet, shard) == ([other], [dead])


def test_a_promotion_that_happened_elsewhere(fleet, catalog, hands):
    """It is seen, and certified with the place where the former history ended."""
    (old,), (new,) = roles(fleet, "shard-2")
    with psycopg.connect(fleet.superuser_conninfo(server(fleet, new)), autocommit=True) as conn:
        conn.execute("SELECT pg_promote()")
    with psycopg.connect(
        fleet.superuser_conninfo(server(fleet, old), "tenantry"), autocommit=True
    ) as conn:
        conn.execute("INSERT INTO public.acknowledged VALUES (-1, -1)")
    found = findings(fleet)
    assert "is a deposed primary" in found[f"node {old}"]
    assert "2 writable primaries" in found["shard shard-2"] or "nobody" in found["shard shard-2"]
    listed = tenantry(fleet, "shard", "list").stdout
    assert "deposed" in listed
    with pytest.raises(FailoverRefused, match="takes writes"):
        failover(catalog, "shard-2", hands=hands)
    made = certify(catalog, "shard-2")
    assert (made.primary, made.ended is not None) == (new, True)
    assert certify(catalog, "shard-2") == made
    # What the deposed one wrote is taken back by pg_rewind.
    assert rewire(catalog, "shard-2", old, hands=hands).primary == new
    with psycopg.connect(
        fleet.superuser_conninfo(server(fleet, old), "tenantry"), autocommit=True
    ) as conn:
        assert conn.execute("SELECT FROM public.acknowledged WHERE writer = -1").fetchone() is None


def test_a_crash_after_the_promotion_leaves_the_end_unknown(fleet, catalog, hands):
    """Postgres would tell the end of its crash recovery instead, with the same start time."""
    dead, other = kill(fleet, "shard-2")
    new = server(fleet, other)
    with psycopg.connect(fleet.superuser_conninfo(new), autocommit=True) as conn:
        conn.execute("SELECT pg_promote()")
        began = conn.execute("SELECT pg_postmaster_start_time()").fetchone()
        os.kill(conn.info.backend_pid, signal.SIGKILL)
        with pytest.raises(psycopg.OperationalError):
            conn.execute("SELECT 1")
    from tenantry_ops.fleet.process import wait_ready

    wait_ready(new, fleet.superuser_conninfo(new), None)
    with psycopg.connect(fleet.superuser_conninfo(new)) as conn:
        assert conn.execute("SELECT pg_postmaster_start_time()").fetchone() == began
    assert certify(catalog, "shard-2").ended is None
    rewire(catalog, "shard-2", dead, hands=hands)


def test_a_frozen_primary_is_ended_before_another_is_made(fleet, catalog, hands):
    """It may never answer late; thawed, it would have acknowledged commits."""
    (old,), (new,) = roles(fleet, "shard-2")
    freeze(server(fleet, old))
    # Each time that it is asked takes as long as who asks is ready to wait.
    catalog = psycopg.conninfo.make_conninfo(catalog, connect_timeout=2)
    with pytest.raises(FailoverRefused, match=f"{new} still receives"):
        failover(catalog, "shard-2")
    assert failover(catalog, "shard-2", hands=hands).primary == new
    assert server(fleet, old).pid is None
    rewire(catalog, "shard-2", old, hands=hands)


def test_a_primary_that_refuses_us_is_not_dead(fleet, catalog, hands):
    """It serves others, so nothing is promoted beside it, and nobody ends it."""
    (old,), (_,) = roles(fleet, "shard-2")
    with psycopg.connect(fleet.superuser_conninfo(server(fleet, old)), autocommit=True) as conn:
        conn.execute("ALTER DATABASE tenantry CONNECTION LIMIT 0")
        try:
            with pytest.raises(FailoverRefused, match=f"{old} .*too many connections.*may serve"):
                failover(catalog, "shard-2", hands=hands)
        finally:
            conn.execute("ALTER DATABASE tenantry CONNECTION LIMIT -1")


def test_a_standby_that_is_refused_again_and_again_does_not_follow(fleet, catalog, hands):
    """For a moment of each try its receiver says that it streams."""
    _, (other,) = roles(fleet, "shard-2")
    said = "SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming'"
    with psycopg.connect(fleet.superuser_conninfo(server(fleet, other)), autocommit=True) as conn:
        receiver = conn.execute("SELECT pid FROM pg_stat_wal_receiver").fetchone()
        conn.execute("ALTER SYSTEM SET primary_slot_name = 'nowhere'")
        conn.execute("SELECT pg_reload_conf()")
        while conn.execute("SELECT pid FROM pg_stat_wal_receiver").fetchone() == receiver:
            pass
        seen, until = 0, time.monotonic() + 60
        while seen < 20:
            assert not stand(other, conn).streaming
            seen += conn.execute(said).fetchone() is not None
            assert time.monotonic() < until
    assert rewire(catalog, "shard-2", other, hands=hands).steps == (f"make a replica {other}",)


def test_what_cannot_be_rewound_is_copied_anew(fleet, catalog, hands):
    """The old folder stays until the copy follows."""
    dead, other = kill(fleet, "shard-2")
    failover(catalog, "shard-2", hands=hands)
    (server(fleet, dead).data_dir / "global" / "pg_control").unlink()
    assert rewire(catalog, "shard-2", dead, hands=hands).primary == other
    assert not server(fleet, dead).data_dir.with_name(f"{dead}.old").exists()


def test_refusals(fleet, catalog, hands):
    """Nothing is changed."""
    (first,), (other,) = roles(fleet, "shard-2")
    with pytest.raises(FailoverRefused, match="use switchover"):
        failover(catalog, "shard-2", hands=hands)
    with pytest.raises(InvalidConfig, match="all"):
        failover(catalog, "shard-2", accept="all", hands=hands)
    with pytest.raises(UnknownNode):
        failover(catalog, "shard-2", to="shard-1-a", hands=hands)
    with pytest.raises(FailoverRefused, match="is its primary"):
        rewire(catalog, "shard-2", first, hands=hands)
    with pytest.raises(InvalidConfig, match="two-nodes"):
        declare(catalog, "shard-2", "three-nodes")
    assert failover(catalog, "shard-2", to=first, hands=hands).steps == ()
    assert rewire(catalog, "shard-2", other, hands=hands).steps == ()


def test_the_doctor_names_slots_and_strangers(fleet, catalog, hands):
    """A slot that nobody consumes; a replica of another cluster that is listed by mistake."""
    (first,), (other,) = roles(fleet, "shard-2")
    with psycopg.connect(fleet.superuser_conninfo(server(fleet, first)), autocommit=True) as conn:
        conn.execute("SELECT pg_create_physical_replication_slot('left_over', true)")
        assert "keeps WAL since" in findings(fleet)[f"slot left_over on {first}"]
        conn.execute("SELECT pg_drop_replication_slot('left_over')")
    (stranger,) = names(fleet, "replica", "shard-1")
    swap = "UPDATE tenantry.nodes SET port = %s WHERE name = %s"
    with psycopg.connect(catalog, dbname=CATALOG_DATABASE, autocommit=True) as conn:
        conn.execute(swap, (1, stranger))
        conn.execute(swap, (server(fleet, stranger).port, other))
        try:
            assert "is of another cluster" in findings(fleet)[f"node {other}"]
            with pytest.raises(FailoverRefused, match="another cluster"):
                rewire(catalog, "shard-2", other, hands=hands)
        finally:
            conn.execute(swap, (server(fleet, other).port, other))
            conn.execute(swap, (server(fleet, stranger).port, stranger))
