"""What is left of a tenant's tasks, and what their history proves, whoever dies meanwhile."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import psycopg

from tenantry import TenantryError, history
from tenantry_ops.demo.proof import prove


def whole_history(router, tenant):
    """Every change of every task, page by page."""
    since, until = (datetime.now(UTC) + timedelta(hours=it) for it in (-2, 2))
    found, after = [], None
    span = {"since": since, "until": until}
    while page := router.run(history.transitions(tenant, after=after, **span), tenant=tenant):
        found += page
        after = page[-1]
    return found


def judged(router, tenant, edges):
    """Return what the history proves, which must be without a fault."""
    proof = prove(whole_history(router, tenant), [(it.task, it.needs) for it in edges])
    assert proof.faults == []
    return proof


def left(router, tenant):
    """Count the tasks that are not done."""
    with router.connection(tenant=tenant) as conn:
        query = "SELECT count(*) FROM tasks WHERE tenant_id = %s AND state <> 'done'"
        return conn.execute(query, (tenant,)).fetchone()[0]


def wait_until_at_most(router, tenant, count, seconds=90):
    """Wait until no more than so many tasks are left, also while nobody can be asked."""
    end = time.monotonic() + seconds
    while True:
        try:
            now = left(router, tenant)
        except (psycopg.OperationalError, TenantryError):
            now = None
        if now is not None and now <= count:
            return
        assert time.monotonic() < end, f"{now} tasks are left"
        time.sleep(0.02)
