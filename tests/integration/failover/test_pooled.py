"""A switchover behind a real PgBouncer: clients wait, and none sees an error."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time

import psycopg
import pytest
from fix_failover import anywhere, lost, names, server, writing
from psycopg.conninfo import make_conninfo

from tenantry_ops.failover import FleetHands, switchover
from tenantry_ops.fleet.secrets import read_passfile
from tenantry_schema.errors import FailoverUnfinished
from tenantry_schema.naming import APP, OPERATOR, SHARD_DATABASE

pytestmark = pytest.mark.slow

ADMIN = "boss"


class Pooler:
    """The least of a gate: one PgBouncer in transaction mode, and its console."""

    def __init__(self, folder, fleet, port):
        self.folder, self.port = folder, port
        words = {**read_passfile(fleet.passfile), ADMIN: "console"}
        users = folder / "users.txt"
        users.write_text("".join(f'"{who}" "{words[who]}"\n' for who in (APP, ADMIN)))
        self.passfile = folder / "passfile"
        self.passfile.write_text("".join(f"*:*:*:{who}:{words[who]}\n" for who in (APP, ADMIN)))
        for path in (users, self.passfile):
            path.chmod(0o600)
        fleet.identity.own(users)

    def conninfo(self, user, dbname):
        return make_conninfo(
            host="127.0.0.1", port=self.port, user=user, dbname=dbname, passfile=str(self.passfile)
        )

    def write(self, host, port):
        (self.folder / "pgbouncer.ini").write_text(
            f"[databases]\n{SHARD_DATABASE} = host={host} port={port}\n[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\n"
            f"auth_type = scram-sha-256\nauth_file = {self.folder}/users.txt\n"
            f"admin_users = {ADMIN}\npool_mode = transaction\nserver_login_retry = 1\n"
        )

    def console(self, command, deadline_s=5.0):
        with psycopg.connect(
            self.conninfo(ADMIN, "pgbouncer"), autocommit=True, connect_timeout=5
        ) as conn:
            conn.pgconn.send_query(command.encode())
            until = time.monotonic() + deadline_s
            while conn.pgconn.is_busy():
                if time.monotonic() > until:
                    raise TimeoutError(f"{command} is not done after {deadline_s} s")
                conn.pgconn.consume_input()
                time.sleep(0.005)
            while (result := conn.pgconn.get_result()) is not None:
                if result.error_message and b"not paused" not in result.error_message:
                    raise AssertionError(result.error_message)

    def pause(self, deadline_s):
        self.console(f"PAUSE {SHARD_DATABASE}", deadline_s)

    def lead_to(self, host, port):
        self.write(host, port)
        self.console("RELOAD")

    def resume(self):
        self.console(f"RESUME {SHARD_DATABASE}")


@pytest.fixture(scope="module")
def fleet(own_fleet):
    return own_fleet()


@pytest.fixture
def pooler(fleet, tmp_path):
    for parent in (tmp_path, *tmp_path.parents[:3]):
        parent.chmod(0o755)
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    made = Pooler(tmp_path, fleet, port)
    (primary,) = names(fleet, "primary")
    made.write(server(fleet, primary).host, server(fleet, primary).port)
    with subprocess.Popen(
        ["pgbouncer", "-q", str(tmp_path / "pgbouncer.ini")],
        cwd="/",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **fleet.identity.popen(),
    ) as child:
        until = time.monotonic() + 20
        while time.monotonic() < until:
            try:
                made.console("SHOW VERSION")
                break
            except psycopg.OperationalError:
                time.sleep(0.02)
        yield made
        os.kill(child.pid, signal.SIGINT)


def test_clients_of_a_pooler_see_no_error(fleet, pooler):
    """Both ways, under four writers: they wait for the switch, and lose nothing."""
    for target in ("shard-1-b", "shard-1-a"):
        with writing(pooler.conninfo(APP, SHARD_DATABASE)) as writers:
            switchover(
                fleet.catalog_conninfo(OPERATOR),
                "shard-1",
                target,
                hands=FleetHands(fleet),
                gates=[pooler],
            )
        assert [it.errors for it in writers] == [0] * 4
        assert lost(anywhere(fleet), writers) == set()


def test_a_pause_that_does_not_come_is_taken_back(fleet, pooler):
    """A transaction outlives the deadline: the old primary stays, and clients go on."""
    (primary,) = names(fleet, "primary")
    (other,) = names(fleet, "replica")
    with psycopg.connect(pooler.conninfo(APP, SHARD_DATABASE)) as conn:
        conn.execute("INSERT INTO public.acknowledged VALUES (-2, -2)")
        with pytest.raises(FailoverUnfinished, match=f"{primary} is primary as before"):
            switchover(
                fleet.catalog_conninfo(OPERATOR),
                "shard-1",
                other,
                hands=FleetHands(fleet),
                gates=[pooler],
                pause_s=0.5,
            )
        conn.commit()
    assert names(fleet, "primary") == [primary]
    with writing(pooler.conninfo(APP, SHARD_DATABASE)) as writers:
        assert [it.errors for it in writers] == [0] * 4
