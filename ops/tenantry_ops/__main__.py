"""``python -m tenantry_ops`` is ``tenantry``."""

from __future__ import annotations

from tenantry_ops.cli import main

main()
