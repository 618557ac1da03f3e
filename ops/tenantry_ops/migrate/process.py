"""Start the process that upgrades one database, and wait for it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tenantry_schema.errors import MigrationFailed

if TYPE_CHECKING:
    from tenantry_schema.migrations import History


@dataclass(frozen=True, slots=True)
class Target:
    """One database to be upgraded.

    :ivar name: for messages: ``catalog``, or the shard's name
    :ivar models: ``module:attribute`` of a service's MetaData, or None for the shipped tables
    """

    name: str
    history: History
    conninfo: str
    models: str | None = None


def upgrade_database(target: Target, *, revision: str = "heads", patience: float = 30.0) -> None:
    """Upgrade one database in a process of its own.

    :param patience: seconds during which a lock that is not available is tried again
    :raises MigrationFailed: naming the database and Postgres's reason
    """
    told = {
        "history": target.history.value,
        "conninfo": target.conninfo,
        "models": target.models,
        "target": revision,
        "patience": patience,
    }
    ended = subprocess.run(
        [sys.executable, "-m", "tenantry_ops.migrate.worker"],
        input=json.dumps(told),
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode != 0:
        raise MigrationFailed(
            f"{target.name}: {ended.stderr.strip() or f'ended with {ended.returncode}'}; mend the "
            "reason and run `tenantry migrate` again"
        )
