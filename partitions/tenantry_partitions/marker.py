"""What a partition that leaves its table carries on itself: a comment, written before it leaves.

It stays with the table through renames, moves and dumps, and goes when the table goes: so no record
elsewhere can say something else than what is there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tenantry_partitions.policy import AtEnd

_KEY = "tenantry"


@dataclass(frozen=True, slots=True)
class Marker:
    """Where a partition came from and what it was detached for.

    :ivar table: the table that it belonged to, in the same schema
    :ivar archive: the address of its verified archive's manifest, or None
    """

    table: str
    start: datetime
    end: datetime
    then: AtEnd
    archive: str | None = None

    def text(self) -> str:
        """Return the comment."""
        held = {
            "table": self.table,
            "from": self.start.isoformat(),
            "to": self.end.isoformat(),
            "then": self.then.value,
            "archive": self.archive,
        }
        return json.dumps({_KEY: held})

    @classmethod
    def read(cls, comment: str | None) -> Marker | None:
        """Return the marker that a comment is, or None for a comment of someone else's."""
        try:
            held: Any = json.loads(comment or "")[_KEY]
            start, end = (datetime.fromisoformat(held[it]) for it in ("from", "to"))
            return cls(held["table"], start, end, AtEnd(held["then"]), held["archive"])
        except (ValueError, KeyError, TypeError):
            return None
