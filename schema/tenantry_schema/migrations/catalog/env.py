from __future__ import annotations

from tenantry_schema.migrations.environment import run

run()
