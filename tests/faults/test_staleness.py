"""No read is older than was declared or said, whatever becomes of the replica meanwhile.

Rows are numbered, and a journal says when each was acknowledged. A read that began at some moment
must see every row that was acknowledged longer before it than its bound.
"""

from __future__ import annotations

import os
import signal
import time
from bisect import bisect_right
from contextlib import contextmanager
from functools import partial

import pytest
from crowd import Crowd
from fix_failover import freeze

from tenantry import DeadlineExceeded, Query, Receipt, Stale, mint_agent_id

pytestmark = pytest.mark.slow

DECLARED_S = 0.5
AGENT = "INSERT INTO agents (tenant_id, id, name) VALUES (%s, %s, %s)"
NEWEST = "SELECT coalesce(max(name::int), 0) FROM agents WHERE tenant_id = %s"


class Journal(Crowd):
    """A writer of numbered rows, and readers whose every answer is judged."""

    def __init__(self, stage):
        super().__init__(self.write, *[self.read] * 3)
        self.stage = stage
        self.acknowledged = []
        self.served = []
        self.late = 0

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
            found = (began, receipt.bound_ms / 1000, newest, receipt.role)
            self.note(partial(self.served.append, found))

    def await_reads(self, role, count=50):
        """Wait until so many more reads were served by a role."""
        with self.changed:
            before = len(self.served)
        self.wait_for(lambda: sum(it[3] == role for it in self.served[before:]) >= count)

    def too_old(self):
        """Return the reads that missed a row which they had to see."""
        return [it for it in self.served if it[2] < self._owed(it[0] - min(it[1], DECLARED_S))]

    def _owed(self, moment):
        return bisect_right(self.acknowledged, moment)


@pytest.fixture
def journal(stage):
    with Journal(stage) as made:
        yield made


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
    """Let a server and all its processes hang for a while."""
    everyone = freeze(server)
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
