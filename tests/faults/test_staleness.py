"""No read is older than was declared or said, whatever becomes of the replica meanwhile.

Rows are numbered, and a journal says when each was acknowledged. A read that began at some moment
must see every row that was acknowledged longer before it than its bound.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from bisect import bisect_right
from contextlib import contextmanager
from pathlib import Path

import pytest

from tenantry import DeadlineExceeded, Query, Receipt, Stale, mint_agent_id

pytestmark = pytest.mark.slow

DECLARED_S = 0.5
AGENT = "INSERT INTO agents (tenant_id, id, name) VALUES (%s, %s, %s)"
NEWEST = "SELECT coalesce(max(name::int), 0) FROM agents WHERE tenant_id = %s"


class Journal:
    """A writer of numbered rows, and readers whose every answer is judged."""

    def __init__(self, stage):
        self.stage = stage
        self.acknowledged = []
        self.served = []
        self.late = 0
        self.ended = threading.Event()
        self.changed = threading.Condition()

    def write(self):
        tenant = self.stage.tenant
        while not self.ended.is_set():
            number = len(self.acknowledged) + 1

            def work(number=number):
                yield Query(AGENT, (tenant, mint_agent_id(tenant), str(number)))

            self.stage.router.run(work, tenant=tenant)
            self.acknowledged.append(time.monotonic())

    def read(self):
        tenant = self.stage.tenant

        def work():
            rows = yield Query(NEWEST, (tenant,))
            return rows[0][0]

        while not self.ended.is_set():
            receipt, began = Receipt(), time.monotonic()
            try:
                newest = self.stage.router.run(
                    work, tenant=tenant, read=Stale(seconds=DECLARED_S), receipt=receipt, deadline=2
                )
            except DeadlineExceeded:
                with self.changed:
                    self.late += 1
                continue
            with self.changed:
                self.served.append((began, receipt.bound_ms / 1000, newest, receipt.role))
                self.changed.notify_all()

    def await_reads(self, role, count=50):
        """Wait until so many more reads were served by a role."""
        with self.changed:
            before = len(self.served)

            def enough():
                return sum(it[3] == role for it in self.served[before:]) >= count

            assert self.changed.wait_for(enough, 30)

    def too_old(self):
        """Return the reads that missed a row which they had to see."""
        return [it for it in self.served if it[2] < self._owed(it[0] - min(it[1], DECLARED_S))]

    def _owed(self, moment):
        return bisect_right(self.acknowledged, moment)


@pytest.fixture
def journal(stage):
    made = Journal(stage)
    threads = [threading.Thread(target=made.write)]
    threads += [threading.Thread(target=made.read) for _ in range(3)]
    for it in threads:
        it.start()
    yield made
    made.ended.set()
    for it in threads:
        it.join()


def test_a_replica_whose_replay_is_paused(stage, journal):
    """Again and again: it answers until its bound is reached, and when it has caught up."""
    journal.await_reads("replica")
    for _ in range(4):
        with stage.superuser(stage.new) as conn:
            conn.execute("SELECT pg_wal_replay_pause()")
            journal.await_reads("primary")
            conn.execute("SELECT pg_wal_replay_resume()")
        journal.await_reads("replica")
    assert journal.too_old() == []
    assert journal.late == 0


@contextmanager
def frozen(server):
    """Stop a server and all its processes, as a hung machine does."""
    pid = server.pid
    os.kill(pid, signal.SIGSTOP)
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    everyone = [pid, *map(int, children)]
    for it in everyone:
        os.kill(it, signal.SIGSTOP)
    try:
        yield
    finally:
        for it in everyone:
            os.kill(it, signal.SIGCONT)


def test_a_replica_that_hangs(stage, journal):
    """It is set aside, and comes back; only reads that were on it may end at their deadline."""
    journal.await_reads("replica")
    for _ in range(2):
        with frozen(stage.new):
            journal.await_reads("primary", 200)
        journal.await_reads("replica")
    assert journal.too_old() == []
    assert journal.late <= 2 * 3
