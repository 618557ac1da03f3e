"""Find out whether a fleet keeps its promises right now."""

from __future__ import annotations

from tenantry_ops.doctor.checks import examine
from tenantry_ops.doctor.facts import FleetFacts, gather_facts
from tenantry_ops.doctor.finding import Finding

__all__ = ["Finding", "FleetFacts", "examine", "gather_facts"]
