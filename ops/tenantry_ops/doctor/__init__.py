"""Find out whether a fleet keeps its promises right now."""

from __future__ import annotations

from tenantry_ops.doctor.checks import Finding, examine
from tenantry_ops.doctor.facts import gather_facts

__all__ = ["Finding", "examine", "gather_facts"]
