"""What a worker's callable gets, and what it may return."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tenantry_schema.query import WorkFactory
    from tenantry_schema.store.rows import Claim


@dataclass(frozen=True, slots=True)
class Effects:
    """What a handler returns to have its effects committed with the task's finish, or not at all.

    :ivar work: a factory of a work, run in the tenant's transaction; it returns the task's result
    """

    work: WorkFactory[Any]


class Job:
    """A task that a worker runs.

    :ivar claim: the claim; its payload is what the task was submitted with
    """

    def __init__(self, claim: Claim, expires: float, *, limited: bool = False) -> None:
        self.claim = claim
        self.expires = expires
        #: Whether its end makes room within a limit of its tenant.
        self.limited = limited
        #: Whether its finish has begun: that may carry others'.
        self.finishing = False
        self._lost = threading.Event()

    @property
    def payload(self) -> dict[str, Any]:
        """What the task was submitted with."""
        return self.claim.payload

    @property
    def lost(self) -> bool:
        """Whether the claim is gone: stop, nothing of the task will be accepted any more."""
        return self._lost.is_set() or time.monotonic() > self.expires

    def lose(self) -> None:
        """Let the job know that its claim is gone."""
        self._lost.set()
