"""The command line in this process: what a person sees, without the start of an interpreter."""

from __future__ import annotations

import io
import signal
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass

import pytest

from tenantry_ops.cli import main


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it printed."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def tenantry(monkeypatch):
    """Call the command line with arguments, as the console script does."""

    def call(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["tenantry", *map(str, arguments)])
        out, err = io.StringIO(), io.StringIO()
        terminated = signal.getsignal(signal.SIGTERM)
        try:
            with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
                main()
        finally:
            signal.signal(signal.SIGTERM, terminated)
        return Ended(ended.value.code or 0, out.getvalue(), err.getvalue())

    return call
