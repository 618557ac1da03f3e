"""Finishes that wait for one of the same tenant in flight, and fly together after it. Pure.

One finish takes a transaction; while it is away others come, and all of them take one more. So
nobody waits for company, and the more there is to finish the less each one costs (what databases
call group commit).
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from uuid import UUID

T = TypeVar("T")


class Together(Generic[T]):
    """Who waits, by tenant; safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[UUID, list[T]] = {}

    def join(self, tenant: UUID, one: T) -> bool:
        """Wait for the flight of somebody else; say whether there is one, else the caller flies."""
        with self._lock:
            waiting = self._waiting.get(tenant)
            if waiting is None:
                self._waiting[tenant] = []
                return False
            waiting.append(one)
            return True

    def next(self, tenant: UUID) -> list[T]:
        """Take those who wait; when nobody does the caller flies no more."""
        with self._lock:
            waiting = self._waiting.pop(tenant)
            if waiting:
                self._waiting[tenant] = []
            return waiting

    def strand(self, tenant: UUID) -> list[T]:
        """Take those who wait for a caller that flies no more, because it failed."""
        with self._lock:
            return self._waiting.pop(tenant, [])
