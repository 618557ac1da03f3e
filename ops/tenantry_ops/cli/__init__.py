"""The command line."""

from __future__ import annotations

from tenantry_ops.cli.root import main

__all__ = ["main"]
