"""Start the process that drives the load, and listen to it.

The command's own process stays as it is: what gevent patches, it patches for a whole process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tenantry_loadtest.plan import DEADLINE_S
from tenantry_schema.errors import TenantryError

if TYPE_CHECKING:
    from typing import IO

    from tenantry_loadtest.plan import Drive
    from tenantry_ops.steps import Step

_STOP_S = DEADLINE_S + 20
_WARNINGS = 5


def run_drive(plan: Drive, step: Step) -> dict[str, Any]:
    """Run the load; return what its process tells, and its last warnings.

    When a step raises, the users end their calls and the process ends before that leaves here.

    :raises TenantryError: with what the process said when it failed
    """
    told, lifeline = os.pipe()
    os.write(lifeline, f"{json.dumps(asdict(plan))}\n".encode())
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said,
        subprocess.Popen(
            [sys.executable, "-m", "tenantry_loadtest"],
            stdin=told,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            # Ctrl-C goes to a terminal's whole group; this process alone decides what it means.
            start_new_session=True,
        ) as child,
    ):
        os.close(told)
        try:
            result = _listen(child.stdout, plan, step)
        finally:
            os.close(lifeline)
            _wait(child)
        said.seek(0)
        lines = said.read().splitlines()
    if result is None or child.returncode != 0:
        reason = lines[-1] if lines else f"it ended with {child.returncode}"
        raise TenantryError(f"the load could not be driven: {reason}")
    return {**result, "warnings": lines[-_WARNINGS:]}


def _listen(output: IO[str] | None, plan: Drive, step: Step) -> dict[str, Any] | None:
    for line in output or ():
        if not line.endswith("\n"):
            # It was killed while it spoke.
            break
        message: dict[str, Any] = json.loads(line)
        if "result" in message:
            result: dict[str, Any] = message["result"]
            return result
        step(f"{message['calls']:,} routed calls", int(message["passed"]), int(plan.seconds))
    return None


def _wait(child: subprocess.Popen[str]) -> None:
    try:
        child.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        child.kill()
