"""A machine that does for the Docker fleet what containers would: its scripts on real servers.

What the postgres image does around the scripts is done here in its order: initdb, a server that
only its socket leads to, the scripts of docker-entrypoint-initdb.d, the server with its command.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sysconfig
from contextlib import contextmanager
from pathlib import Path

from fix_compose import ROOT
from psycopg.conninfo import make_conninfo

from tenantry_ops.fleet.identity import reachable_programs, server_identity
from tenantry_ops.fleet.plan import free_ports
from tenantry_ops.fleet.process import Server, signal_stop, start, wait_ready, wait_stopped

COMPOSE = ROOT / "ops" / "compose"


class Machine:
    """Folders for volumes, secrets and scripts; a port for each server; programs."""

    def __init__(self, project, folder, programs):
        self.project = project
        self.folder = folder
        self.identity = server_identity()
        self.programs = reachable_programs(programs, self.identity, folder / "programs")
        self.ports = dict(zip(project.servers, free_ports(len(project.servers)), strict=True))
        self.scripts = Path(shutil.copytree(COMPOSE, folder / "compose"))
        self.secrets = folder / "secrets"
        self.secrets.mkdir()
        for name, it in project.config["secrets"].items():
            (self.secrets / name).write_text(project.values[it["environment"]])
        entrypoint = folder / "bin" / "docker-entrypoint.sh"
        entrypoint.parent.mkdir()
        entrypoint.write_text('#!/bin/sh\nexec "$@"\n')
        entrypoint.chmod(0o755)
        for name in project.servers:
            (folder / name).mkdir()
            self.identity.own(folder / name)

    def server(self, name):
        volume = self.folder / name
        return Server(name, str(volume), self.ports[name], volume / "18" / "docker")

    def settings(self, name):
        """What the command sets, but for the disk's sake."""
        return {**self.project.settings(name), "fsync": "off"}

    def environment(self, name):
        own = (self.folder / "bin", self.programs.folder, sysconfig.get_path("scripts"))
        return {
            **self.project.services[name]["environment"],
            "PATH": ":".join(map(str, (*own, os.environ["PATH"]))),
            "TENANTRY_SECRETS": str(self.secrets),
        }

    def conninfo(self, name, user="postgres", dbname="postgres", host="127.0.0.1"):
        role = "superuser" if user == "postgres" else user.removeprefix("tenantry_")
        password = self.project.values[f"TENANTRY_{role.upper()}_PASSWORD"]
        return make_conninfo(
            host=host, port=self.ports[name], user=user, dbname=dbname, password=password
        )

    def here(self, text):
        """Return a text with the servers' names as they are reached here."""

        def place(found):
            names = found[1].split(",")
            ports = ",".join(str(self.ports[it]) for it in names)
            return f"host={','.join('127.0.0.1' for _ in names)} port={ports}"

        return re.sub(r"host=([\w,-]+)", place, text)

    def run(self, *command, **more):
        """Run what a container would, as the user of its servers and without a terminal."""
        options = {"cwd": "/", "start_new_session": True, **self.identity.popen(), **more}
        options |= {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
        ended = subprocess.run(command, check=False, **options)
        assert ended.returncode == 0, f"{command}:\n{ended.stdout}{ended.stderr}"
        return ended.stdout


@contextmanager
def primary(machine, name, **options):
    server = machine.server(name)
    settings = {**machine.settings(name), **options}
    child = start(server, machine.programs, machine.identity, settings, tied=True)
    try:
        wait_ready(server, machine.conninfo(name, host=server.host), child)
        yield
    finally:
        handle = signal_stop(server)
        if handle is not None:
            wait_stopped(server, handle)
        child.wait()


def make_primary(machine, name):
    """Do what the image does with an empty volume."""
    server, environment = machine.server(name), machine.environment(name)
    password_file = machine.secrets / Path(environment["POSTGRES_PASSWORD_FILE"]).name
    machine.run(
        *(machine.programs.path("initdb"), "--username=postgres", "--no-sync"),
        *(f"--pwfile={password_file}", *environment["POSTGRES_INITDB_ARGS"].split()),
        f"--pgdata={server.data_dir}",
    )
    with (server.data_dir / "pg_hba.conf").open("a") as file:
        file.write("host all all all scram-sha-256\n")
    environment |= {
        "POSTGRES_USER": "postgres",
        "PGPASSWORD": password_file.read_text(),
        "PGDATA": str(server.data_dir),
        "PGHOST": server.host,
        "PGPORT": str(server.port),
    }
    with primary(machine, name, listen_addresses=""):
        for script in sorted((machine.scripts / "initdb").glob("*.sh")):
            machine.run(str(script), env=environment)


@contextmanager
def replica(machine, name, primary_conninfo):
    """Start a replica by its entrypoint and its command."""
    server, service = machine.server(name), machine.project.services[name]
    shell, script = service["entrypoint"]
    place = {"port": server.port, "unix_socket_directories": server.host}
    settings = {**machine.settings(name), **place, "listen_addresses": "127.0.0.1"}
    command = ["setpriv", "--pdeathsig", "INT", "--", shell, machine.scripts / Path(script).name]
    command += ["postgres", *(f"--{key}={value}" for key, value in settings.items())]
    environment = {"PGDATA": str(server.data_dir), "TENANTRY_PRIMARY": primary_conninfo}
    server.log.parent.mkdir(exist_ok=True)
    machine.identity.own(server.log.parent)
    with server.log.open("ab") as log:
        child = subprocess.Popen(
            command,
            env={**machine.environment(name), **environment},
            stdout=log,
            stderr=log,
            cwd="/",
            start_new_session=True,
            **machine.identity.popen(),
        )
    try:
        wait_ready(server, machine.conninfo(name), child)
        yield
    finally:
        child.send_signal(signal.SIGINT)
        child.wait()
