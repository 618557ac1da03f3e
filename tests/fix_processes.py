"""Commands in processes of their own, and what they leave behind."""

from __future__ import annotations

import os
import select
import signal
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


def processes(place):
    """Return the processes that name a folder in their command line or their environment."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes()
            named = line + (entry / "environ").read_bytes()
        except OSError:
            continue
        if str(place).encode() in named:
            found[int(entry.name)] = line
    return found
