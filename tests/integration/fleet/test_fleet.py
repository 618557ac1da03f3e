from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from tenantry_ops.fleet import Fleet, find_programs
from tenantry_schema.errors import FleetError, InvalidConfig


def test_two_shards_stream_to_their_replicas(fleet):
    """Roles as Postgres tells them; what a primary wrote arrives at its replica."""
    assert [it["role"] for it in fleet.status()] == ["primary", "replica"] * 2
    for shard in fleet.shards:
        with psycopg.connect(fleet.superuser_conninfo(shard.primary)) as conn:
            found = conn.execute(
                "SELECT application_name, state FROM pg_stat_replication"
            ).fetchall()
            slots = conn.execute("SELECT slot_name, active FROM pg_replication_slots").fetchall()
        assert found == [(shard.replicas[0].name, "streaming")]
        assert slots == [(shard.replicas[0].name.replace("-", "_"), True)]


def test_servers_are_set_up_for_what_is_to_come(fleet):
    """Logical WAL, checksums, SCRAM, distinct clusters."""
    identifiers = set()
    for shard in fleet.shards:
        with psycopg.connect(fleet.superuser_conninfo(shard.primary)) as conn:
            for name, value in (
                ("wal_level", "logical"),
                ("data_checksums", "on"),
                ("password_encryption", "scram-sha-256"),
                ("full_page_writes", "on"),
            ):
                assert conn.execute("SELECT current_setting(%s)", (name,)).fetchone() == (value,)
            identifiers.add(
                conn.execute("SELECT system_identifier FROM pg_control_system()").fetchone()
            )
    assert len(identifiers) == len(fleet.shards)


@pytest.mark.parametrize("host", ["socket", "127.0.0.1"])
def test_a_wrong_password_is_refused(fleet, host):
    """Also on the unix socket."""
    server = fleet.shards[0].primary
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(
            host=server.host if host == "socket" else host,
            port=server.port,
            user="tenantry_app",
            dbname="tenantry",
            password="wrong",
        )


def test_no_secret_leaves_the_password_file(fleet):
    """Neither the description, nor the logs, nor the commands hold a password."""
    passwords = [line.split(":")[-1] for line in fleet.passfile.read_text().split()]
    assert fleet.passfile.stat().st_mode & 0o777 == 0o600
    texts = [(fleet.directory / "fleet.toml").read_text()]
    texts += [server.log.read_text() for server in fleet.servers]
    texts += [Path(f"/proc/{server.pid}/cmdline").read_text() for server in fleet.servers]
    assert not [word for word in passwords for it in texts if word in it]


def test_a_fleet_stays_up_between_commands(folder):
    """Started untied, found by its folder, stopped by another object; then started again."""
    first = Fleet.up(folder, shards=1, replicas=1, tied=False)
    pids = [it.pid for it in first.servers]
    again = Fleet.up(folder, tied=False)
    assert [it.pid for it in again.servers] == pids
    os.kill(pids[1], signal.SIGQUIT)
    first._children[first.servers[1].name].wait()
    assert [it["role"] for it in Fleet.load(folder).status()] == ["primary", "down"]
    revived = Fleet.up(folder, tied=False)
    assert [it["role"] for it in revived.status()] == ["primary", "replica"]
    revived.down()
    first.down()
    assert [it["role"] for it in Fleet.load(folder).status()] == ["down", "down"]


@pytest.mark.parametrize("options", [{"shards": 0}, {"replicas": 9}, {"profile": "x"}])
def test_impossible_fleets_are_refused(folder, options):
    """Before anything is made."""
    with pytest.raises(InvalidConfig):
        Fleet.up(folder / "never", **options)
    assert not (folder / "never").exists()


def test_a_folder_without_a_fleet_says_what_to_do(tmp_path):
    """The error names the command."""
    with pytest.raises(FleetError, match="tenantry fleet up"):
        Fleet.load(tmp_path)


@pytest.mark.parametrize(
    "text", [b"\xff", b"= 1", b"version = '18.6'", b"shards = 7", b"shards = ['one']"]
)
def test_a_description_that_is_broken_says_what_to_do(tmp_path, tenantry, text):
    """No description, half of one, or no text at all: one error, which names the file."""
    broken = tmp_path / "fleet.toml"
    broken.write_bytes(text)
    with pytest.raises(FleetError, match=f"^{broken} is not .*put back what it was, or end the se"):
        Fleet.load(tmp_path)
    ended = tenantry("fleet", "status", "--dir", tmp_path)
    assert (ended.returncode, ended.stderr.split()[0]) == (1, "FleetError:")


@pytest.fixture
def closed(open_folder, monkeypatch):
    """A working folder that nobody may enter but who runs the tests, as ``/root`` is."""
    place = open_folder / "closed"
    place.mkdir(mode=0o700)
    monkeypatch.chdir(place)
    yield place
    for left in open_folder.glob("**/fleet.toml"):
        Fleet.load(left.parent).discard()


#: The command in a process of its own, with the folder for fleets of root first.
UP = """
import sys
from pathlib import Path
from tenantry_ops.cli import main
from tenantry_ops.fleet import place

place._STATE = Path(sys.argv.pop(1))
main()
"""


@pytest.fixture
def up(closed, pytestconfig):
    """Start the smallest fleet from the closed folder."""
    given = pytestconfig.getoption("--pg-bin")
    chosen = ("--pg-bin", given) if given else ()
    small = ("fleet", "up", "--shards", "1", "--replicas", "0", *chosen)

    def call(*options):
        command = [sys.executable, "-c", UP, closed.parent / "state", *small, *options]
        return subprocess.run(command, capture_output=True, text=True, check=False, umask=0o077)

    return call


@pytest.mark.slow
def test_a_fleet_of_root_needs_no_folder_to_be_chosen(closed, up, tenantry):
    """Its servers' user cannot enter root's home: the fleet is elsewhere, and found all the same.

    Who is not root has servers of the same user, and the fleet where it always is.
    """
    started = up()
    assert started.returncode == 0, started.stderr
    link, state = closed / ".tenantry", closed.parent / "state"
    homes = list(state.iterdir()) if os.geteuid() == 0 else [link]
    assert [link.resolve()] == homes
    assert link.is_symlink() == (os.geteuid() == 0)
    assert (str(homes[0]) in started.stderr) == link.is_symlink()
    assert (link / "passfile").stat().st_mode & 0o777 == 0o600
    (server,) = json.loads(tenantry("fleet", "status", "--json").stdout)
    assert server["role"] == "primary"
    again = tenantry("fleet", "up", "--json")
    assert "found a fleet of Postgres" in again.stderr
    assert json.loads(again.stdout) == [server]
    stopped = json.loads(tenantry("fleet", "down", "--remove", "--json").stdout)
    assert stopped == {"stopped": ["shard-1-a"], "removed": True}
    assert list(homes[0].iterdir()) == []


def test_a_folder_that_was_named_is_the_folder(closed, up):
    """Never another one: as root it is refused when the servers' user cannot enter it."""
    named = closed / "named"
    ended = up("--dir", named)
    assert not (closed.parent / "state").exists()
    if os.geteuid() == 0:
        assert ended.returncode == 1
        assert f"cannot enter {closed}: name with --dir a folder whose parents" in ended.stderr
        assert list(named.iterdir()) == []
    else:
        assert Fleet.load(named).discard() == ["shard-1-a"]


def test_the_command_line_keeps_a_fleet(folder, tenantry, pytestconfig):
    """Up, status, down, up again, removed: each answers people and programs, with an exit code."""
    at = ("--json", "--dir", folder)
    given = pytestconfig.getoption("--pg-bin")
    chosen = ("--pg-bin", given) if given else ()
    # In a process of its own, which is gone while the servers run.
    command = ("fleet", "up", "--shards", "1", "--replicas", "0", *chosen, *at)
    up = subprocess.run(
        [sys.executable, "-m", "tenantry_ops", *command], capture_output=True, text=True, check=True
    )
    assert [it["role"] for it in json.loads(up.stdout)] == ["primary"]
    found = find_programs(given)
    assert f"Postgres {found.version} from {found.source}" in up.stderr
    (server,) = json.loads(tenantry("fleet", "status", *at).stdout)
    assert (server["name"], server["port"]) == ("shard-1-a", Fleet.load(folder).servers[0].port)
    again = tenantry("fleet", "up", *at)
    assert json.loads(again.stdout) == [server]
    assert "found a fleet of Postgres" in again.stderr
    down = {"stopped": ["shard-1-a"], "removed": False}
    assert json.loads(tenantry("fleet", "down", *at).stdout) == down
    status = tenantry("fleet", "status", "--dir", folder)
    assert (status.returncode, "down" in status.stdout) == (1, True)
    removed = {"stopped": [], "removed": True}
    assert json.loads(tenantry("fleet", "down", "--remove", *at).stdout) == removed
    assert list(folder.iterdir()) == []
