"""Migrate a fleet: the catalog, a canary shard, then the others."""

from __future__ import annotations

from tenantry_ops.migrate.fleet import SchemaState, migrate, schema_state, write_fleet_revision
from tenantry_ops.migrate.process import Target, upgrade_database

__all__ = [
    "SchemaState",
    "Target",
    "migrate",
    "schema_state",
    "upgrade_database",
    "write_fleet_revision",
]
