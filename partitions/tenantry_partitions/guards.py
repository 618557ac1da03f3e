"""Names of the CHECKs that tenantry puts on a default partition: they say for which range."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tenantry_partitions.coverage import Range

#: Keeps rows of a range out, and keeps rows of every other range out.
GUARD, PROMOTION = "guard", "promotion"

_NAME = re.compile(r"tenantry_(guard|promotion)_(-?\d{1,12})_(-?\d{1,12})\Z")


def constraint_name(kind: str, span: Range) -> str:
    """Return the name of the CHECK for a range, to the second."""
    start, end = (int(it.timestamp()) for it in span)
    return f"tenantry_{kind}_{start}_{end}"


def guarded_range(name: str, kind: str) -> Range | None:
    """Return the range that a constraint of a kind is for, or None for another constraint."""
    found = _NAME.match(name)
    if found is None or found[1] != kind:
        return None
    return (
        datetime.fromtimestamp(int(found[2]), UTC),
        datetime.fromtimestamp(int(found[3]), UTC),
    )
