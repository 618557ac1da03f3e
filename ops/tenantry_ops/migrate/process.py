"""Start the process that upgrades databases, and hand them to it.

Alembic keeps its context in module globals, so each database is upgraded in a process of its own.
Importing it takes a second, so one process does that once, while its caller still looks around, and
forks for every database.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from tenantry_schema.errors import MigrationFailed

if TYPE_CHECKING:
    from tenantry_schema.naming import History


_STANDARD_ERROR = 2


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


class Upgrades:
    """The process that upgrades databases, while it is entered; it may be shared by threads.

    What is still under way when it is left is ended, however that happens.
    """

    def __enter__(self) -> Self:
        self._control, its = socket.socketpair()
        with its:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tenantry_ops.migrate.worker"],
                stdin=its.fileno(),
                # What a revision prints is no answer of the command.
                stdout=_STANDARD_ERROR,
                start_new_session=True,
            )
        return self

    def __exit__(self, *exc: object) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._control.close()

    def upgrade(
        self, target: Target, *, revision: str = "heads", patience: float = 30.0
    ) -> tuple[str, ...]:
        """Upgrade one database in a process of its own; return the revisions that it has then.

        :param patience: seconds during which a lock that is not available is tried again
        :raises MigrationFailed: naming the database and Postgres's reason
        """
        told = {
            "history": target.history.value,
            "conninfo": target.conninfo,
            "models": target.models,
            "target": revision,
            "patience": patience,
            # A service's models and revisions are importable there as they are here.
            "path": sys.path,
        }
        answer = self._ask(json.dumps(told).encode())
        if answer is None or "reason" in answer:
            reason = answer["reason"] if answer else "its process ended without a word"
            raise MigrationFailed(
                f"{target.name}: {reason}; mend the reason and run `tenantry migrate` again"
            )
        return tuple(answer["revisions"])

    def _ask(self, question: bytes) -> dict[str, Any] | None:
        mine, its = socket.socketpair()
        with mine:
            try:
                with its:
                    socket.send_fds(self._control, [b"+"], [its.fileno()])
                mine.sendall(question)
                mine.shutdown(socket.SHUT_WR)
                with mine.makefile("rb") as answered:
                    told = answered.read()
            except OSError:
                # The other side is gone; what it could say it has said on standard error.
                return None
        found: dict[str, Any] | None = json.loads(told) if told else None
        return found
