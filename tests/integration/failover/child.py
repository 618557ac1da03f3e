"""A change of primary that ends itself by SIGKILL right before a step: folder, step, call."""

from __future__ import annotations

import json
import os
import signal
import sys

from tenantry_ops.failover import FleetHands, run
from tenantry_ops.fleet import Fleet
from tenantry_schema.naming import OPERATOR


def main() -> None:
    folder, told, verb, arguments = sys.argv[1:]
    left = [int(told)]
    fleet = Fleet.load(folder)

    def progress(message: str) -> None:
        if "may be lost" in message:
            return
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1

    getattr(run, verb)(
        fleet.catalog_conninfo(OPERATOR),
        **json.loads(arguments),
        hands=FleetHands(fleet),
        progress=progress,
    )


main()
