"""Make a fleet's servers: initdb, primaries, roles, databases, replicas; each phase in parallel."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import psycopg
from psycopg.conninfo import make_conninfo

from tenantry_ops.fleet.secrets import REPLICATION, SUPERUSER, verifiers
from tenantry_ops.fleet.statements import cluster_statements, create_database
from tenantry_schema.errors import FleetError
from tenantry_schema.naming import CATALOG_DATABASE, SHARD_DATABASE, slot_name
from tenantry_schema.roles import database_statements, promotion_statements

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tenantry_ops.fleet.identity import Identity
    from tenantry_ops.fleet.process import Server
    from tenantry_ops.fleet.programs import Programs

_COMMON = {
    "wal_level": "logical",
    "max_wal_senders": "20",
    "max_replication_slots": "20",
    "max_connections": "200",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # A session whose client is gone ends also in the middle of a statement.
    "client_connection_check_interval": "5s",
    "wal_retrieve_retry_interval": "100ms",
    # Backups that are taken at once ask for checkpoints, each of which recycles the others' WAL.
    "wal_keep_size": "128MB",
    # pg_rewind needs them, also in the fast profile.
    "wal_log_hints": "on",
    "full_page_writes": "on",
}

#: Settings of each profile: `fast` survives the end of a server but not of the machine.
PROFILES: dict[str, dict[str, str]] = {
    "fast": {**_COMMON, "fsync": "off"},
    "durable": {**_COMMON, "fsync": "on"},
}

#: How each cluster is made, by initdb.
INITDB = ("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--data-checksums")

_HBA = """\
# Passwords everywhere, also on the unix socket.
local all         all                scram-sha-256
host  all         all  127.0.0.1/32  scram-sha-256
local replication all                scram-sha-256
host  replication all  127.0.0.1/32  scram-sha-256
"""


def init_primaries(
    servers: Sequence[Server], programs: Programs, identity: Identity, pwfile: Path
) -> None:
    """Run initdb for all servers at once; each gets its own system identifier.

    A copied data folder would share it, and a replica could then attach to the wrong shard.
    """
    command = [programs.path("initdb"), "--username", SUPERUSER, "--pwfile", str(pwfile)]
    command += [*INITDB, "--no-sync", "--no-instructions", "--pgdata"]
    run_together({it.name: [*command, str(it.data_dir)] for it in servers}, identity)
    for server in servers:
        hba = server.data_dir / "pg_hba.conf"
        hba.write_text(_HBA)
        identity.own(hba)


def copy_replicas(
    pairs: Sequence[tuple[Server, Server]], programs: Programs, identity: Identity, passfile: Path
) -> None:
    """Run pg_basebackup for all (primary, replica) pairs at once, each with its own slot."""
    commands = {
        replica.name: copy_command(primary, replica, programs, passfile, make_slot=True)
        for primary, replica in pairs
    }
    run_together(commands, identity)


def copy_command(
    primary: Server, replica: Server, programs: Programs, passfile: Path, *, make_slot: bool
) -> list[str]:
    """Return the pg_basebackup that copies a primary into a replica's folder."""
    return [
        *(programs.path("pg_basebackup"), "--dbname", upstream(primary, replica, passfile)),
        *("--pgdata", str(replica.data_dir), "--write-recovery-conf"),
        *(["--create-slot"] if make_slot else []),
        *("--slot", slot_name(replica.name), "--checkpoint=fast", "--wal-method=stream"),
        *("--no-sync", "--no-password"),
    ]


def upstream(primary: Server, replica: Server, passfile: Path) -> str:
    """Return how a replica connects to its primary."""
    return make_conninfo(
        host=primary.host,
        port=primary.port,
        user=REPLICATION,
        passfile=str(passfile),
        application_name=replica.name,
    )


def prepare_shard(conninfo: str, passwords: Mapping[str, str], *, catalog: bool) -> None:
    """Make the roles and the databases of a shard; repeatable."""
    with psycopg.connect(conninfo, autocommit=True) as conn:
        served = {role: word for role, word in passwords.items() if role.startswith("tenantry_")}
        told = verifiers(conn, served)
        for statement in cluster_statements(told):
            conn.execute(statement)
        for database in (SHARD_DATABASE, *((CATALOG_DATABASE,) if catalog else ())):
            found = conn.execute("SELECT 1 FROM pg_database WHERE datname = %s", (database,))
            if found.fetchone() is None:
                conn.execute(create_database(database))
            for statement in database_statements(database):
                conn.execute(statement)
    with psycopg.connect(conninfo, dbname=SHARD_DATABASE, autocommit=True) as conn:
        for statement in promotion_statements():
            conn.execute(statement)


def run_together(commands: Mapping[str, Sequence[str]], identity: Identity) -> None:
    """Run one program for each server, all at once.

    :raises FleetError: with the output of one that failed
    """
    running = {
        name: subprocess.Popen(  # noqa: S603  the fleet's own programs
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd="/",
            start_new_session=True,
            **identity.popen(),
        )
        for name, command in commands.items()
    }
    ended = {name: (child.communicate()[0], child.returncode) for name, child in running.items()}
    for name, (output, code) in ended.items():
        if code != 0:
            program = commands[name][0]
            raise FleetError(f"{program} for {name} ended with {code}:\n{output.strip()}")
