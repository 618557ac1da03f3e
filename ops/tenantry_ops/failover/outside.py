"""Servers that somebody else starts and stops: what remains to be done there, said or called."""

from __future__ import annotations

import os
import shlex
import subprocess
from typing import TYPE_CHECKING

from tenantry_schema.errors import FailoverUnfinished

if TYPE_CHECKING:
    from tenantry.map import Node

_HOOK_S = 3600.0


def instructions(node: Node, primary: Node) -> str:
    """Return what an operator does to make a server the replica of another."""
    target = f"host={primary.host} port={primary.port} user=REPLICATION_ROLE"
    return (
        f"{node.name} ({node.host}:{node.port}): stop it; pg_rewind --target-pgdata=PGDATA "
        f"--source-server='{target} dbname=postgres'; in its postgresql.auto.conf "
        f"primary_conninfo = '{target} application_name={node.name}'; touch PGDATA/standby.signal; "
        "start it; then `tenantry shard list` shows it as a replica"
    )


def call_hook(command: str, node: Node, primary: Node) -> None:
    """Call the operator's own command, which is told by its environment what to do.

    :raises FailoverUnfinished: when it fails
    """
    told = {
        "TENANTRY_NODE": node.name,
        "TENANTRY_HOST": node.host,
        "TENANTRY_PORT": str(node.port),
        "TENANTRY_PRIMARY": primary.name,
        "TENANTRY_PRIMARY_HOST": primary.host,
        "TENANTRY_PRIMARY_PORT": str(primary.port),
    }
    ended = subprocess.run(  # noqa: S603  the operator's own command, without a shell
        shlex.split(command), env={**os.environ, **told}, timeout=_HOOK_S, check=False
    )
    if ended.returncode != 0:
        raise FailoverUnfinished(
            f"--rewire for {node.name} ended with {ended.returncode}: {instructions(node, primary)}"
        )
