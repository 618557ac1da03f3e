"""Compare what every bucket is made of, by the servers' own catalogs, with what it should be."""

from __future__ import annotations

from tenantry_ops.structure.compare import Difference, differences
from tenantry_ops.structure.facts import Structure, structures
from tenantry_ops.structure.fleet import schema_diff

__all__ = ["Difference", "Structure", "differences", "schema_diff", "structures"]
