"""The two histories: one for every shard, one for the catalog."""

from __future__ import annotations

from tenantry_schema.migrations.running import History, current_revision, head_revision, upgrade

__all__ = ["History", "current_revision", "head_revision", "upgrade"]
