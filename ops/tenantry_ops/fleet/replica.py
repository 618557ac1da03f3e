"""Make a server that was a primary, or that lost touch, the replica of another one.

The cheapest way that can be right is taken: follow, where its WAL ended before the other's history
began; rewind, where it wrote more; and a new copy, which replaces the old folder only when it is
whole.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

from psycopg.conninfo import make_conninfo

from tenantry_ops.fleet.build import copy_command, run_together, upstream
from tenantry_ops.fleet.secrets import REPLICATION
from tenantry_schema.errors import FleetError
from tenantry_schema.naming import slot_name

if TYPE_CHECKING:
    from pathlib import Path

    from tenantry_ops.fleet.identity import Identity
    from tenantry_ops.fleet.process import Server
    from tenantry_ops.fleet.programs import Programs

_CLEAN = re.compile(
    r"cluster state:\s+shut down$.*?Latest checkpoint location:\s+([0-9A-F]+)/([0-9A-F]+)$",
    re.MULTILINE | re.DOTALL,
)
_OWN = ("primary_conninfo", "primary_slot_name")


def clean_end(server: Server, programs: Programs, identity: Identity) -> int | None:
    """Return where a primary that was stopped cleanly wrote its last checkpoint, else None."""
    told = subprocess.run(  # noqa: S603  the fleet's own program
        [programs.path("pg_controldata"), str(server.data_dir)],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env={"LC_ALL": "C"},
        **identity.popen(),
    )
    found = _CLEAN.search(told.stdout)
    return None if found is None else (int(found[1], 16) << 32) | int(found[2], 16)


def keep_from_writing(server: Server, identity: Identity) -> None:
    """Make a stopped server a standby, so that nobody starts it as a second primary."""
    signal = server.data_dir / "standby.signal"
    signal.touch()
    identity.own(signal)


def is_standby(server: Server) -> bool:
    """Say whether a server would start as a standby."""
    return (server.data_dir / "standby.signal").exists()


def follow(server: Server, primary: Server, identity: Identity, passfile: Path) -> None:
    """Configure a stopped server to receive from a primary, through its own slot there."""
    config = server.data_dir / "postgresql.auto.conf"
    config.write_text(
        followed(config.read_text(), upstream(primary, server, passfile), slot_name(server.name))
    )
    keep_from_writing(server, identity)


def followed(config: str, conninfo: str, slot: str) -> str:
    """Return a configuration that names a primary; an earlier one is forgotten."""
    kept = [line for line in config.splitlines() if line.split(" ")[0] not in _OWN]
    quoted = conninfo.replace("'", "''")
    kept += [f"primary_conninfo = '{quoted}'", f"primary_slot_name = '{slot}'"]
    return "\n".join(kept) + "\n"


def rewind(
    server: Server, primary: Server, programs: Programs, identity: Identity, passfile: Path
) -> None:
    """Take back what a stopped server wrote past the point where the primary's history left it.

    :raises FleetError: when pg_rewind finds no way
    """
    # A crashed server is recovered first, which a standby would do for ever.
    (server.data_dir / "standby.signal").unlink(missing_ok=True)
    source = make_conninfo(
        host=primary.host,
        port=primary.port,
        user=REPLICATION,
        dbname="postgres",
        passfile=str(passfile),
    )
    command = [programs.path("pg_rewind"), "--target-pgdata", str(server.data_dir)]
    command += ["--source-server", source, "--no-sync"]
    try:
        run_together({server.name: command}, identity)
    finally:
        keep_from_writing(server, identity)


def copy_anew(
    server: Server, primary: Server, programs: Programs, identity: Identity, passfile: Path
) -> None:
    """Replace a stopped server's folder by a new copy of the primary.

    :raises FleetError: when it cannot be copied; the old folder is where it was
    """
    fresh = replace(server, data_dir=server.data_dir.with_name(f"{server.name}.new"))
    old = server.data_dir.with_name(f"{server.name}.old")
    shutil.rmtree(fresh.data_dir, ignore_errors=True)
    command = copy_command(primary, fresh, programs, passfile, make_slot=False)
    run_together({server.name: command}, identity)
    if old.exists():
        raise FleetError(f"{old} is in the way: it is what an earlier copy replaced; remove it")
    server.data_dir.rename(old)
    fresh.data_dir.rename(server.data_dir)


def discard_old(server: Server) -> None:
    """Remove the folder that a copy replaced, once the copy was seen to follow."""
    shutil.rmtree(server.data_dir.with_name(f"{server.name}.old"), ignore_errors=True)
