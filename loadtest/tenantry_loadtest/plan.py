"""What a load run is asked to do."""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass, field

from tenantry_schema.errors import InvalidConfig

#: Seconds within which every call of a user ends.
DEADLINE_S = 10.0


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How much load, and which.

    :ivar seed: what users do follows from it; a new one when none is given
    :raises InvalidConfig: for numbers that cannot be
    """

    seconds: float = 20.0
    users: int = 10
    tenants: int = 20
    seed: int = field(default_factory=lambda: secrets.randbelow(1 << 31))

    def __post_init__(self) -> None:
        if not (math.isfinite(self.seconds) and 1 <= self.seconds <= 86_400):
            raise InvalidConfig(f"a load run takes 1 to 86,400 seconds, not {self.seconds}")
        if not 1 <= self.users <= 1_000:
            raise InvalidConfig(f"a load run has 1 to 1,000 users, not {self.users}")
        if not 1 <= self.tenants <= 10_000:
            raise InvalidConfig(f"a load run has 1 to 10,000 tenants, not {self.tenants}")


@dataclass(frozen=True, slots=True)
class Drive:
    """What the process that drives the load is told.

    :ivar catalog: how the service connects
    :ivar record: the file that the run's record goes to; begun already
    """

    catalog: str
    record: str
    seconds: float
    users: int
