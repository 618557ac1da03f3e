"""Make a fleet out of empty databases: catalog, shards, buckets."""

from __future__ import annotations

from tenantry_ops.initialise.plan import InitPlan, embedded_plan
from tenantry_ops.initialise.run import initialise

__all__ = ["InitPlan", "embedded_plan", "initialise"]
