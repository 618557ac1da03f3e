"""The process that resumes for us (:mod:`~.watching`), seen from the one that pauses."""

from __future__ import annotations

import json
import select
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tenantry_ops.bouncer.console import command, console_conninfo
from tenantry_schema.errors import BouncerError

if TYPE_CHECKING:
    from collections.abc import Sequence

_PROGRAM = Path(__file__).with_name("watching.py")
_START_S = 30.0


@dataclass(frozen=True, slots=True)
class Watchdog:
    """A process that watches a pause."""

    child: subprocess.Popen[str]

    @classmethod
    def start(cls, consoles: Sequence[str], databases: Sequence[str], lease: float) -> Self:
        """Start it, and wait until it watches.

        :param consoles: conninfos; they go through a pipe, so that no password is in a process list
        :raises BouncerError: when it does not start
        """
        told = {
            "consoles": [console_conninfo(it) for it in consoles],
            "resume": {it: command("RESUME", it) for it in databases},
            "lease": lease,
        }
        # -P: its own folder is not a place to import from.
        child = subprocess.Popen(  # noqa: S603  our own program
            [sys.executable, "-P", str(_PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            text=True,
        )
        dog = cls(child)
        try:
            dog._say(json.dumps(told))
            dog._hear("ready")
        except BaseException:
            child.kill()
            dog._close()
            raise
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

    def _hear(self, word: str) -> None:
        output = self.child.stdout
        heard = output is not None and select.select([output], [], [], _START_S)[0]
        if output is None or not heard or output.readline() != f"{word}\n":
            raise BouncerError("the watchdog of the pause did not start: nothing was paused")

    def _close(self, *, wait: bool = True) -> None:
        for pipe in (self.child.stdin, self.child.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
        if wait:
            self.child.wait()
        else:
            # It outlives this process, which Popen would warn of.
            self.child.returncode = 0
