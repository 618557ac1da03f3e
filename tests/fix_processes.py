"""Commands in processes of their own, and what they leave behind."""

from __future__ import annotations

import os
import select
import signal
from contextlib import suppress
from pathlib import Path

import pytest
from fix_fleet import server_folder


@pytest.fixture
def open_folder():
    """An empty folder that every user may enter, also when root runs the tests."""
    with server_folder() as made:
        yield made


@pytest.fixture
def freeze():
    """Stop processes of a server; let them go on afterwards, to find that nobody listens."""
    stopped = []

    def stop(pid):
        os.kill(pid, signal.SIGSTOP)
        stopped.append(pid)

    yield stop
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)


def until(child, holds):
    """Wait for a condition for as long as a process runs."""
    handle = os.pidfd_open(child.pid)
    try:
        while not (found := holds()):
            over, _, _ = select.select([handle], [], [], 0.02)
            assert not over, child.communicate()
        return found
    finally:
        os.close(handle)


def children(pid):
    """Return the command lines of a process's children by their pids, without those that ended."""
    found = {}
    for it in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with suppress(OSError):
            found[int(it)] = Path(f"/proc/{it}/cmdline").read_bytes()
    return found


def processes(place):
    """Return the processes that name a folder in their command line or their environment."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            line = (entry / "cmdline").read_bytes()
            if str(place).encode() in line + (entry / "environ").read_bytes():
                found[int(entry.name)] = line
    return found
