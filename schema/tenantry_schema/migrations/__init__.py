"""The two histories: one for every shard, one for the catalog."""

from __future__ import annotations

from tenantry_schema.migrations.running import (
    History,
    current_revisions,
    head_revisions,
    upgrade,
    write_revision,
)

__all__ = ["History", "current_revisions", "head_revisions", "upgrade", "write_revision"]
