"""PAUSE with a deadline, and RESUME whatever happens, on real PgBouncers."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest
from fix_bouncer import Load, connected

from tenantry_ops.bouncer import Pooler, paused, resume_all
from tenantry_ops.bouncer.lying import read_ini
from tenantry_ops.bouncer.pause import pause_for
from tenantry_ops.bouncer.watchdog import Watchdog
from tenantry_schema.errors import (
    BouncerError,
    InvalidConfig,
    OperationInProgress,
    PauseTimeout,
)

pytestmark = pytest.mark.slow

CHILD = """
import sys, pathlib
from tenantry_ops.bouncer import Pooler, paused
with paused([Pooler.at(pathlib.Path(sys.argv[1]))], ["shard-1"], deadline=5, lease=600):
    print("paused", flush=True)
    sys.stdin.read()
"""


def paused_now(own):
    with own.pooler.open() as console:
        return console.paused()


@contextmanager
def open_transaction(own, entry="shard-1"):
    with connected(own, entry) as conn:
        conn.execute("BEGIN")
        conn.execute("SELECT 1")
        yield conn


def wait_until(condition, within):
    until = time.monotonic() + within
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_clients_wait_and_go_on(own):
    """Nothing runs in the block; afterwards everybody goes on, without an error."""
    with Load(own, "shard-1") as load:
        load.await_answers("shard-1-a")
        with paused([own.pooler], ["shard-1"]) as window:
            assert paused_now(own) == ["shard-1"]
            before = len(load.seen)
            assert window.remaining > 0
            window.check()
            with own.pooler.open() as console:
                pools = [it for it in console.show("POOLS") if it["database"] == "shard-1"]
            assert sum(it["sv_active"] for it in pools) == 0
            assert len(load.seen) == before
        load.await_answers("shard-1-a", before + 20)
    assert load.errors == []
    assert paused_now(own) == []


def test_a_transaction_that_does_not_end(own):
    """The deadline is kept, everything is resumed, and the transaction was not disturbed."""
    with open_transaction(own) as conn:
        began = time.monotonic()
        with (
            pytest.raises(PauseTimeout, match="shard-1"),
            paused([own.pooler], ["shard-1"], deadline=0.5),
        ):
            pytest.fail("it was not at rest")
        assert time.monotonic() - began < 10
        assert paused_now(own) == []
        assert conn.execute("SELECT 2").fetchone() == (2,)
        conn.execute("COMMIT")
    with connected(own, "shard-1") as other:
        assert other.execute("SELECT 3").fetchone() == (3,)


def test_a_transaction_that_ends_in_time(own):
    """PAUSE waits for it."""
    with open_transaction(own) as conn, ThreadPoolExecutor(1) as thread:
        ending = thread.submit(conn.execute, "SELECT pg_sleep(0.5); COMMIT")
        with paused([own.pooler], ["shard-1"], deadline=30):
            ending.result(10)
            assert paused_now(own) == ["shard-1"]
    assert paused_now(own) == []


def test_a_block_that_fails(own):
    """Resumed; nothing is put in place."""
    before = read_ini(own.directory)
    with pytest.raises(ZeroDivisionError), paused([own.pooler], ["shard-1"]) as window:
        window.point("shard-1", host="nowhere", port=1)
        raise ZeroDivisionError
    assert paused_now(own) == []
    assert read_ini(own.directory) == before


def test_a_command_that_is_killed(own):
    """Its watchdog resumes at once: PgBouncer itself would leave the database paused for ever."""
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(own.directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout.readline() == "paused\n"
        assert paused_now(own) == ["shard-1"]
        child.send_signal(signal.SIGKILL)
        child.wait()
        wait_until(lambda: paused_now(own) == [], within=20)


def test_a_block_that_outlasts_its_lease(own):
    """Clients go on, and the block learns it."""
    with pytest.raises(PauseTimeout, match="lease"):
        with paused([own.pooler], ["shard-1"], deadline=1, lease=2) as window:
            wait_until(lambda: paused_now(own) == [], within=30)
            window.check()
    assert paused_now(own) == []


def test_a_pause_that_outlives_its_command(own):
    """Until somebody resumes it, from another connection."""
    pause_for([own.pooler], ["shard-1", "shard-2"], deadline=5, lease=600)
    assert sorted(paused_now(own)) == ["shard-1", "shard-2"]
    with pytest.raises(OperationInProgress, match="somebody else"):
        with paused([own.pooler], ["shard-2"]):
            pytest.fail("it was paused by somebody else")
    assert sorted(paused_now(own)) == ["shard-1", "shard-2"]
    where = own.pooler.open()
    with where:
        assert sorted(resume_all([own.pooler])) == [
            (where.where, "shard-1"),
            (where.where, "shard-2"),
        ]
    assert resume_all([own.pooler], ["shard-1"]) == []


def test_a_pause_that_nobody_resumes(own):
    """The end of its lease does."""
    pause_for([own.pooler], ["shard-1"], deadline=1, lease=1)
    assert paused_now(own) == ["shard-1"]
    wait_until(lambda: paused_now(own) == [], within=30)


def test_all_poolers_or_none(own, bouncer):
    """One that does not answer, one whose transaction goes on: nothing stays paused anywhere."""
    dead = Pooler("host=127.0.0.1 port=1 user=x connect_timeout=2")
    with pytest.raises(BouncerError, match="port"), paused([own.pooler, dead], ["shard-1"]):
        pytest.fail("one did not answer")
    assert paused_now(own) == []
    with open_transaction(bouncer):
        poolers = [own.pooler, bouncer.pooler]
        with pytest.raises(PauseTimeout), paused(poolers, ["shard-1"], deadline=0.5):
            pytest.fail("one was not at rest")
    assert paused_now(own) + paused_now(bouncer) == []
    with paused([own.pooler, bouncer.pooler], ["shard-1"]):
        assert paused_now(own) + paused_now(bouncer) == ["shard-1", "shard-1"]
    assert paused_now(own) + paused_now(bouncer) == []


@pytest.mark.parametrize("name", ["nowhere", "", "x" * 64, "a\0b", 'shard-1"; SHUTDOWN; "'])
def test_databases_that_are_not_there(own, name):
    """Refused, and what was paused meanwhile is resumed."""
    with pytest.raises((BouncerError, InvalidConfig)), paused([own.pooler], ["shard-1", name]):
        pytest.fail("it does not exist")
    assert paused_now(own) == []
    assert own.pid is not None


def test_a_switchover_as_clients_see_it(own):
    """New clients come while it is paused; RELOAD comes last, so that nobody waits for 15 s."""
    primary, replica = own.fleet.shards[0].servers
    with Load(own, "shard-1-b") as load, Load(own, "shard-1-b", threads=2) as late:
        load.await_answers(replica.name)
        with paused([own.pooler], ["shard-1-b"], deadline=10) as window:
            began = time.monotonic()
            with pytest.raises(psycopg.OperationalError):
                connected(own, "shard-1-b", connect_timeout=2)
            window.point("shard-1-b", host=primary.host, port=primary.port)
        load.await_answers(primary.name)
        late.await_answers(primary.name, 5)
        waited = time.monotonic() - began
    assert load.errors + late.errors == []
    load.check_order(replica.name, primary.name)
    assert waited < 12
    # It does not count as changed by hand.
    assert window.waiting == []
    text = read_ini(own.directory).section("databases")["shard-1-b"]
    assert f"port={primary.port} " in text


def test_a_pooler_whose_files_lie_elsewhere(own):
    """It must lead to the new server by itself once it was reloaded, or that is told."""
    remote = Pooler(own.pooler.console)
    primary = own.fleet.shards[0].primary
    with pytest.raises(BouncerError, match="do not lead"):
        with paused([remote], ["shard-1-b"]) as window:
            window.point("shard-1-b", host=primary.host, port=primary.port)
    assert paused_now(own) == []
    with paused([remote], ["shard-1"]) as window:
        window.point("shard-1", host=primary.host, port=primary.port)
    assert paused_now(own) == []


def test_entries_that_cannot_lead_elsewhere(own):
    """There is none of that name: told, after everything was resumed."""
    with pytest.raises(BouncerError, match="no entry"), paused([own.pooler], ["shard-1"]) as window:
        window.point("shard-9", host="x", port=1)
    assert paused_now(own) == []


def test_a_watchdog_that_cannot_start(own, monkeypatch):
    """Nothing was paused without one."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(BouncerError, match="watchdog"):
        Watchdog.start([own.pooler.console], ["shard-1"], 1)
    with pytest.raises(BouncerError, match="watchdog"), paused([own.pooler], ["shard-1"]):
        pytest.fail("it has no watchdog")
    assert paused_now(own) == []
