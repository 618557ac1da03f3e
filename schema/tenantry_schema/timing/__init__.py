"""Time as partitions see it: spans, the grid that they make, and the names of its cells. Pure."""

from __future__ import annotations

from tenantry_schema.timing.grid import Grid
from tenantry_schema.timing.names import (
    DAILY,
    HOURLY,
    check_pattern,
    format_moment,
    parse_moment,
    partition_name,
)
from tenantry_schema.timing.span import Span

__all__ = [
    "DAILY",
    "HOURLY",
    "Grid",
    "Span",
    "check_pattern",
    "format_moment",
    "parse_moment",
    "partition_name",
]
