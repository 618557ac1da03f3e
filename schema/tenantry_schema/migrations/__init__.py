"""The two histories: one for every shard, one for the catalog."""

from __future__ import annotations

from tenantry_schema.migrations.running import (
    current_revisions,
    head_revisions,
    upgrade,
    write_revision,
)
from tenantry_schema.naming import History

__all__ = ["History", "current_revisions", "head_revisions", "upgrade", "write_revision"]
