"""Write a run's record, and read it."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Self

from tenantry_loadtest.history import begin_line, end_line, parse_history, run_line, unread_line
from tenantry_schema.errors import InvalidConfig

if TYPE_CHECKING:
    from pathlib import Path

    from tenantry_loadtest.history import History, Line, Outcome, Run, Write


class Journal:
    """Appends to a record.

    Each line is one call of the kernel's ``write``: a process that is killed loses none of those
    that it wrote.
    """

    def __init__(self, handle: int) -> None:
        self._handle = handle

    @classmethod
    def create(cls, path: Path, run: Run) -> Self:
        """Begin a record.

        :raises InvalidConfig: when there is such a file
        """
        try:
            handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError as error:
            raise InvalidConfig(
                f"{path} exists: a record is never written over, name another file with --record"
            ) from error
        journal = cls(handle)
        journal._write(run_line(run))
        return journal

    @classmethod
    def append(cls, path: Path) -> Self:
        """Go on with a record that was begun by another process."""
        return cls(os.open(path, os.O_WRONLY | os.O_APPEND))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Write no more."""
        os.close(self._handle)

    def begin(self, write: Write) -> None:
        """Note a write that is about to be sent."""
        self._write(begin_line(write))

    def end(self, key: str, outcome: Outcome, reason: str | None) -> None:
        """Note what the user was told of it."""
        self._write(end_line(key, outcome, reason))

    def unread(self, key: str) -> None:
        """Note an acknowledged write that was not read back."""
        self._write(unread_line(key))

    def _write(self, line: Line) -> None:
        text = json.dumps({**line, "ns": time.monotonic_ns()}, separators=(",", ":"))
        os.write(self._handle, f"{text}\n".encode())


def read_history(path: Path) -> History:
    """Read a record.

    :raises InvalidConfig: naming the file, and the line that cannot be
    """
    try:
        return parse_history(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidConfig(f"{path}: {error}") from error
