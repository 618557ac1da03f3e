"""A process that resumes what another one paused, when that one dies or holds it for too long.

PgBouncer keeps a database paused after the connection that paused it is gone, for ever. So whoever
pauses starts this first, ``python -m tenantry_ops.bouncer.watchdog``, and talks to its standard
input:

1. one line of JSON: ``{"consoles": [...], "databases": [...], "lease": seconds}``. It answers
   ``ready``; not before that is anything paused.
2. ``done``: everything was resumed, it ends. Or ``held``: from here on only the lease counts.
3. End of input before either of them: the other process is gone, so it resumes at once.

At the end of the lease it resumes whatever is still paused, and tries again until it could.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Self

from tenantry_ops.bouncer.console import Console
from tenantry_schema.errors import BouncerError

if TYPE_CHECKING:
    from collections.abc import Sequence

_START_S = 30.0
_LOOK_S = 0.25
#: How long it goes on trying to resume at a console that does not answer.
_PATIENCE_S = 600.0


@dataclass(frozen=True, slots=True)
class Watchdog:
    """The process, seen from the one that pauses."""

    child: subprocess.Popen[str]

    @classmethod
    def start(cls, consoles: Sequence[str], databases: Sequence[str], lease: float) -> Self:
        """Start it, and wait until it watches.

        :param consoles: conninfos; they go through a pipe, so that no password is in a process list
        :raises BouncerError: when it does not start
        """
        child = subprocess.Popen(
            [sys.executable, "-m", "tenantry_ops.bouncer.watchdog"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            text=True,
        )
        dog = cls(child)
        told = {"consoles": list(consoles), "databases": list(databases), "lease": lease}
        dog._say(json.dumps(told))
        output = child.stdout
        ready = select.select([output], [], [], _START_S)[0] if output else []
        if not output or not ready or output.readline() != "ready\n":
            child.kill()
            dog._close()
            raise BouncerError("the watchdog of the pause did not start: nothing was paused")
        return dog

    def dismiss(self) -> None:
        """Let it end: everything was resumed."""
        with suppress(BouncerError):
            self._say("done")
        self._close()

    def hold(self) -> None:
        """Let only the lease count from here on, so that this process may end.

        :raises BouncerError: when it is gone
        """
        self._say("held")
        self._close(wait=False)

    def abandon(self) -> None:
        """Leave it with what could not be resumed: it goes on trying."""
        self._close(wait=False)

    def _say(self, line: str) -> None:
        try:
            if self.child.stdin is not None:
                self.child.stdin.write(f"{line}\n")
                self.child.stdin.flush()
        except OSError as error:
            raise BouncerError("the watchdog of the pause is gone") from error

    def _close(self, *, wait: bool = True) -> None:
        for pipe in (self.child.stdin, self.child.stdout):
            if pipe is not None:
                pipe.close()
        if wait:
            self.child.wait()
        else:
            # It outlives this process, which Popen would warn of.
            self.child.returncode = 0


def watch(told: dict[str, object], orders: IO[str]) -> None:
    """Do what the module says, in the process that watches."""
    consoles, databases, lease = told["consoles"], told["databases"], told["lease"]
    if not isinstance(consoles, list) or not isinstance(databases, list):
        raise TypeError("consoles and databases are lists")
    until = time.monotonic() + float(str(lease))
    held = False
    while time.monotonic() < until:
        if held:
            if not _still_paused(consoles, databases):
                return
            time.sleep(_LOOK_S)
        elif select.select([orders], [], [], max(0.0, until - time.monotonic()))[0]:
            order = orders.readline().strip()
            if order == "done":
                return
            if order != "held":
                break
            held = True
    _resume(consoles, databases)


def _still_paused(consoles: list[str], databases: list[str]) -> bool:
    """Say whether any is paused; one that cannot be asked may be."""
    for conninfo in consoles:
        try:
            with Console(conninfo) as console:
                if set(console.paused()) & set(databases):
                    return True
        except BouncerError:
            return True
    return False


def _resume(consoles: list[str], databases: list[str]) -> None:
    left = set(consoles)
    until = time.monotonic() + _PATIENCE_S
    while left and time.monotonic() < until:
        left = {it for it in left if not _resumed(it, databases)}
        if left:
            time.sleep(_LOOK_S)


def _resumed(conninfo: str, databases: list[str]) -> bool:
    try:
        with Console(conninfo) as console:
            for database in set(console.paused()) & set(databases):
                console.resume(database)
    except BouncerError:
        return False
    return True


if __name__ == "__main__":
    given = json.loads(sys.stdin.readline())
    print("ready", flush=True)  # noqa: T201  the protocol
    watch(given, sys.stdin)
