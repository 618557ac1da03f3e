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
