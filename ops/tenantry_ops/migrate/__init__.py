"""Migrate a fleet: the catalog, a canary shard, then the others."""

from __future__ import annotations

from tenantry_ops.migrate.fleet import migrate
from tenantry_ops.migrate.process import Target, Upgrades

__all__ = ["Target", "Upgrades", "migrate"]
