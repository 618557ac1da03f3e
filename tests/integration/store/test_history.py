"""Claims are linearizable: what concurrent workers recorded is explained by one owner at a time."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter

import pytest
from judge import wait_until_at_most
from linear import Call, unexplained

from tenantry import LeaseLost, tasks

LEASE = 0.3


class Worker:
    """Claim, dawdle, renew, give back, finish, once more finish; forget some; record all of it."""

    def __init__(self, router, tenant, name, ended):
        self.router, self.tenant, self.name, self.ended = router, tenant, name, ended
        self.chance = random.Random(name)
        self.calls = []
        self.thread = threading.Thread(target=self.work)

    def run(self, factory):
        sent = time.monotonic()
        try:
            result = self.router.run(factory, tenant=self.tenant)
        except LeaseLost:
            result = LeaseLost
        return result, sent, time.monotonic()

    def work(self):
        while not self.ended.is_set():
            claim = tasks.claim(self.tenant, self.name, most=3, lease=LEASE)
            found, *when = self.run(claim)
            for it in found:
                self.calls.append(Call(it.id, "claim", self.name, it.fence, True, *when))
            for it in found:
                self.go_on(it)

    def go_on(self, claim):
        """Do something by a claim, several times, in any order, in time or too late."""
        for _ in range(self.chance.choice([0, 1, 2, 3])):
            time.sleep(self.chance.choice([0, 0, 0.02, 0.4]))
            what = self.chance.choice(["renew", "finish", "finish", "release"])
            if what == "finish":
                result, *when = self.run(tasks.finish(claim, self.name))
                held = result is not LeaseLost
            else:
                ask = {"renew": tasks.renew, "release": tasks.release}[what]
                options = {"lease": LEASE} if what == "renew" else {}
                result, *when = self.run(ask([claim], **options))
                held = result == set()
            self.calls.append(Call(claim.id, what, self.name, claim.fence, held, *when))


@pytest.mark.slow
def test_claims_are_linearizable(router, tenant):
    """Eight workers at random on forty tasks, until all are done."""
    retry = tasks.Retry(crashes=10_000)
    graph = [tasks.NewTask("k", retry=retry) for _ in range(40)]
    router.run(tasks.submit(tenant, graph), tenant=tenant)
    ended = threading.Event()
    workers = [Worker(router, tenant, f"w{it}", ended) for it in range(8)]
    for it in workers:
        it.thread.start()
    try:
        wait_until_at_most(router, tenant, 0)
    finally:
        ended.set()
        for it in workers:
            it.thread.join()
    calls = [call for it in workers for call in it.calls]
    assert unexplained(calls, LEASE) == []
    counted = Counter((call.what, call.held) for call in calls)
    assert counted["finish", True] == len(graph)
    # The history is one that could have gone wrong.
    assert min(counted["finish", False], counted["renew", True], counted["renew", False]) > 0
