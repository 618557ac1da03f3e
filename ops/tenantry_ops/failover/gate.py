"""What stands between clients and a shard's primary, such as a PgBouncer."""

from __future__ import annotations

from typing import Protocol


class Gate(Protocol):
    """Holds clients back while the primary changes, and leads them to the new one.

    ``lead_to`` is called right before ``resume``: a pooler that is reloaded while it is paused
    makes new clients wait out a penalty (PgBouncer's ``server_login_retry``).
    """

    def pause(self, deadline_s: float) -> None:
        """Hold new transactions back, and wait until those in flight have ended.

        :raises TimeoutError: when they have not by the deadline; ``resume`` is called then
        """

    def lead_to(self, host: str, port: int) -> None:
        """Send clients to another server from now on."""

    def resume(self) -> None:
        """Let clients go on; does nothing when they were not held back."""
