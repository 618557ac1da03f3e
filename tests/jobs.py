"""Jobs of a worker that nobody claimed: what flows are given in tests without servers."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from tenantry.work.job import Job
from tenantry_schema.store.rows import Claim

TENANTS = UUID(int=1), UUID(int=2)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def job(number):
    """Tasks of two tenants, in turns."""
    claim = Claim(
        tenant=TENANTS[number % 2], id=UUID(int=100 + number), fence=1, queue="q", kind="k",
        payload={}, priority=0, attempt=1, crashes=0, max_attempts=3, max_crashes=5,
        backoff_ms=1, backoff_most_ms=1, exhausted="failed", lease_until=NOW, deadline=None,
        late=False, agent=None, actor=None, progress=None, owner="w", needed=False,
    )  # fmt: skip
    return Job(claim, float("inf"))
