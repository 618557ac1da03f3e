"""What a crash left of a fleet is found, and is adopted, stopped or made anew."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tenantry_ops.fleet import Fleet
from tenantry_schema.errors import FleetError

pytestmark = pytest.mark.slow

#: Starts a fleet, and strikes itself down when a step is told.
CHILD = """
import os, signal, sys
from tenantry_ops.fleet import Fleet
folder, tied, step, pg_bin = sys.argv[1:]

def progress(told):
    if step and step in told:
        os.kill(os.getpid(), signal.SIGKILL)

fleet = Fleet.up(
    folder, shards=1, replicas=1, tied=tied == "tied", pg_bin=pg_bin or None, progress=progress
)
print(*(it.pid for it in fleet.servers), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def start(folder, pytestconfig):
    """Start a fleet in a process of its own, which can be killed."""

    @contextmanager
    def started(tied="tied", step=""):
        pg_bin = pytestconfig.getoption("--pg-bin") or ""
        command = [sys.executable, "-c", CHILD, str(folder), tied, step, pg_bin]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe) as child:
            yield child

    return started


def end_of(pids):
    """Wait for the end of processes; the handles were taken while they lived."""
    for handle in pids:
        ended, _, _ = select.select([handle], [], [], 20)
        os.close(handle)
        assert ended


def kill(child):
    child.send_signal(signal.SIGKILL)
    child.wait()


def test_a_killed_parent_leaves_no_server(folder, start):
    """SIGKILL of the process that started a tied fleet ends its servers too."""
    with start() as child:
        handles = [os.pidfd_open(int(pid)) for pid in child.stdout.readline().split()]
        kill(child)
        end_of(handles)
    assert [it["role"] for it in Fleet.load(folder).status()] == ["down", "down"]


def test_an_untied_fleet_is_adopted(folder, start):
    """It outlives a killed command; the next one finds the same servers, and can stop them."""
    with start("untied") as child:
        pids = [int(pid) for pid in child.stdout.readline().split()]
        kill(child)
    found = Fleet.load(folder)
    assert [it["role"] for it in found.status()] == ["primary", "replica"]
    adopted = Fleet.up(folder, tied=False)
    assert [it.pid for it in adopted.servers] == pids
    assert adopted.down() == ["shard-1-a", "shard-1-b"]
    assert [it.pid for it in found.servers] == [None, None]


def test_a_server_whose_end_nobody_reaps_is_started_again(folder, start):
    """Although Postgres takes it for a running one, and although a session of it lives on."""
    with start("untied") as child:
        child.stdout.readline()
        fleet = Fleet.load(folder)
        primary = fleet.servers[0]
        dead = primary.pid
        with psycopg.connect(fleet.superuser_conninfo(primary)) as conn:
            session = os.pidfd_open(conn.info.backend_pid)
            os.kill(conn.info.backend_pid, signal.SIGSTOP)
            handle = os.pidfd_open(dead)
            os.kill(dead, signal.SIGKILL)
            end_of([handle])
            os.kill(dead, 0)
            fleet.start_server(primary)
            end_of([session])
        assert primary.pid != dead
        assert fleet.status()[0]["role"] == "primary"
        fleet.down()


@pytest.mark.parametrize("step", ["making primaries", "copying replicas"])
def test_a_start_that_was_killed_is_begun_anew(folder, start, step):
    """Its servers, which still run, are stopped; what was half made is removed, and made."""
    with start("untied", step) as child:
        assert child.wait() == -signal.SIGKILL
    left = Fleet.load(folder)
    assert not left.state.complete
    running = [os.pidfd_open(it.pid) for it in left.servers if it.pid is not None]
    assert len(running) == (step == "copying replicas")
    told = []
    with Fleet.up(folder, shards=1, replicas=0, progress=told.append) as fleet:
        end_of(running)
        assert "removing what was left half made" in told
        assert [it["role"] for it in fleet.status()] == ["primary"]


def test_servers_that_died_are_started_again(folder, pytestconfig):
    """Also with the files of a dead server lying about, and with its number given to another."""
    pg_bin = pytestconfig.getoption("--pg-bin")
    fleet = Fleet.up(folder, shards=1, replicas=1, tied=False, pg_bin=pg_bin)
    primary, replica = fleet.servers
    with psycopg.connect(fleet.superuser_conninfo(primary), autocommit=True) as conn:
        conn.execute("CREATE TABLE kept AS SELECT 1 AS one")
    for server in fleet.servers:
        os.kill(server.pid, signal.SIGKILL)
        fleet._children[server.name].wait()
    stale = primary.data_dir / "postmaster.pid"
    lines = stale.read_text().splitlines()
    stale.write_text("\n".join([str(os.getpid()), *lines[1:]]))
    assert [it["role"] for it in fleet.status()] == ["down", "down"]
    with Fleet.up(folder) as again:
        assert [it["role"] for it in again.status()] == ["primary", "replica"]
        # In one transaction a replica's session would not learn of a table that is replayed.
        with psycopg.connect(again.superuser_conninfo(replica), autocommit=True) as conn:
            while conn.execute("SELECT to_regclass('kept')").fetchone() == (None,):
                conn.execute("SELECT pg_sleep(0.01)")
            assert conn.execute("SELECT one FROM kept").fetchone() == (1,)


def test_a_swept_socket_folder_is_made_again(folder, pytestconfig):
    """Somebody emptied the folder for temporary files: who knows a server's address still does."""
    pg_bin = pytestconfig.getoption("--pg-bin")
    fleet = Fleet.up(folder, shards=1, replicas=1, tied=False, pg_bin=pg_bin)
    before = Path(fleet.state.sockets).stat()
    shutil.rmtree(fleet.state.sockets)
    assert [it["role"] for it in fleet.status()] == ["not answering"] * 2
    with Fleet.up(folder) as again:
        after = Path(fleet.state.sockets).stat()
        assert (after.st_mode, after.st_uid) == (before.st_mode, before.st_uid)
        assert [it["role"] for it in again.status()] == ["primary", "replica"]
        until_streaming(fleet.superuser_conninfo(fleet.shards[0].primary))
    fleet.down()


def test_a_socket_folder_of_somebody_else_is_refused(folder, pytestconfig):
    """In a folder for temporary files anybody may take a name that was swept."""
    pg_bin = pytestconfig.getoption("--pg-bin")
    fleet = Fleet.up(folder, shards=1, replicas=0, tied=False, pg_bin=pg_bin)
    fleet.down()
    sockets = Path(fleet.state.sockets)
    sockets.rmdir()
    if os.getuid() == 0:
        sockets.mkdir()
        os.chown(sockets, 54321, -1)
    else:
        sockets.symlink_to("/")
    with pytest.raises(FleetError, match="somebody else"):
        Fleet.up(folder)
    (sockets.unlink if sockets.is_symlink() else sockets.rmdir)()
    fleet.discard()


def until_streaming(conninfo):
    """Wait until a primary feeds its replica."""
    feeds = "SELECT FROM pg_stat_replication WHERE state = 'streaming'"
    with psycopg.connect(conninfo, autocommit=True) as conn:
        while not conn.execute(feeds).rowcount:
            conn.execute("SELECT pg_sleep(0.01)")


def test_a_server_that_cannot_start_leaves_the_others_running(folder, pytestconfig):
    """The error has the end of its log; what ran before goes on."""
    pg_bin = pytestconfig.getoption("--pg-bin")
    fleet = Fleet.up(folder, shards=1, replicas=1, tied=False, pg_bin=pg_bin)
    replica = fleet.servers[1]
    os.kill(replica.pid, signal.SIGKILL)
    fleet._children[replica.name].wait()
    with socket.create_server(("127.0.0.1", replica.port)):
        with pytest.raises(FleetError, match=r"(?s)shard-1-b did not start.*in use"):
            Fleet.up(folder)
    assert [it["role"] for it in fleet.status()] == ["primary", "down"]
    fleet.down()


def test_two_starts_at_once_make_one_fleet(folder, pytestconfig):
    """The second waits, and finds what the first has made."""
    made, pg_bin = [], pytestconfig.getoption("--pg-bin")

    def up():
        made.append(Fleet.up(folder, shards=1, replicas=0, tied=False, pg_bin=pg_bin))

    threads = [threading.Thread(target=up) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({it.servers[0].pid for it in made}) == 1
    assert sum(len(it._children) for it in made) == 1
    for it in made:
        it.down()
