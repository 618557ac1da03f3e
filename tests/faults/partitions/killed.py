"""One rollover that ends itself by kill -9, before its n-th deed or after so many uploaded bytes.

It is told when, as JSON on standard input.
"""

from __future__ import annotations

import json
import os
import signal
import sys

import psycopg

from tenantry_partitions.archive import Archiver, Store
from tenantry_partitions.archive.store import Upload
from tenantry_partitions.budget import Budget
from tenantry_partitions.policy import Policy
from tenantry_partitions.rollover import roll_over
from tenantry_partitions.session import maintenance

DEEDS = ("ALTER", "CREATE", "DROP", "COMMENT", "LOCK", "COPY")


def main():
    told = json.load(sys.stdin)
    left = told["strike"]

    def deed():
        nonlocal left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

    execute, write, put = psycopg.Connection.execute, Upload.write, Store.put_manifest

    def executed(conn, query, *arguments, **options):
        text = query if isinstance(query, str) else query.as_string(None)
        if text.lstrip().startswith(DEEDS):
            deed()
        return execute(conn, query, *arguments, **options)

    def written(upload, data):
        deed()
        if upload.size > told.get("uploaded", upload.size):
            os.kill(os.getpid(), signal.SIGKILL)
        return write(upload, data)

    def stored(store, manifest):
        deed()
        put(store, manifest)
        # The most delicate moment: it is archived, and the partition does not know it yet.
        deed()

    psycopg.Connection.execute = executed
    Upload.write = written
    Store.put_manifest = stored
    budget = Budget()
    with maintenance(told["conninfo"], budget, patience=30) as conn:
        archiver = Archiver(Store.open(told["address"]))
        policy = Policy.parse(told["policy"])
        (report,) = roll_over(conn, {("public", "events"): policy}, budget, archiver=archiver)
    sys.exit(f"{report.error}" if report.error else 0)


if __name__ == "__main__":
    main()
