"""Counts of reads by policy and outcome."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING

from tenantry.reads import AtLeast, Stale

if TYPE_CHECKING:
    from tenantry.reads import Declared

_NAMES = {type(None): "fresh", Stale: "stale", AtLeast: "at_least"}


class ReadCounts:
    """How often each policy was served by what, or refused."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, read: Declared | None, outcome: str) -> None:
        """Count one; the outcome is ``primary``, ``replica``, ``refused`` or ``interrupted``."""
        key = _NAMES[type(read)], outcome
        with self._lock:
            self._counts[key] += 1

    def all(self) -> dict[str, dict[str, int]]:
        """Return policy -> outcome -> count."""
        with self._lock:
            counted = dict(self._counts)
        found: dict[str, dict[str, int]] = {name: {} for name in _NAMES.values()}
        for (policy, outcome), count in counted.items():
            found[policy][outcome] = count
        return found
