"""Time partitions of a whole fleet, or of one database: plan, roll over, alert, render units."""

from __future__ import annotations

from tenantry_ops.partitions.places import Database, databases, one_database
from tenantry_ops.partitions.walk import DatabasePlan, DatabaseReport, plan_all, roll_over_all

__all__ = [
    "Database",
    "DatabasePlan",
    "DatabaseReport",
    "databases",
    "one_database",
    "plan_all",
    "roll_over_all",
]
