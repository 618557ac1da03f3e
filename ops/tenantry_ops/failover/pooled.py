"""PgBouncers as the gate of a shard: at rest while the primary changes, then led to the new one."""

from __future__ import annotations

import math
from contextlib import ExitStack
from typing import TYPE_CHECKING

from tenantry_ops.bouncer import Paused, paused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tenantry_ops.bouncer import Pooler

#: Seconds after which held clients go on by themselves: longer than any change takes.
_LEASE_S = 120.0


class BouncerGate:
    """The entry of one shard on all PgBouncers in front of it.

    :param entry: the database of PgBouncer that leads to the shard's primary
    """

    def __init__(self, poolers: Sequence[Pooler], entry: str) -> None:
        self._poolers = poolers
        self._entry = entry
        self._held = ExitStack()
        self._window: Paused | None = None

    def pause(self, deadline_s: float) -> None:
        """Hold new transactions back, and wait until those in flight have ended.

        :raises PauseTimeout: when they have not by the deadline; everything goes on then
        """
        window = paused(self._poolers, [self._entry], deadline=deadline_s, lease=_LEASE_S)
        self._window = self._held.enter_context(window)

    def lead_to(self, host: str, port: int) -> None:
        """Send clients to another server: when they go on, or at once while they are not held."""
        window = self._window or Paused(self._poolers, [self._entry], math.inf)
        window.point(self._entry, host=host, port=port)
        if self._window is None:
            window.finish()

    def resume(self) -> None:
        """Let clients go on; does nothing when they were not held back."""
        self._window = None
        self._held.close()
