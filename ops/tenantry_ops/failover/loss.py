"""What a failover may lose, and what its operator said may be lost: pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tenantry_ops.failover.standing import lsn_of, lsn_text
from tenantry_ops.failover.sync import Sync
from tenantry_schema.errors import InvalidConfig

if TYPE_CHECKING:
    from tenantry_ops.failover.standing import ShardStanding, Standing

_BYTES = re.compile(r"(\d{1,15})\s*([kKMG]?)B?\Z")
_UNITS = {"": 1, "k": 1024, "K": 1024, "M": 1024**2, "G": 1024**3}


@dataclass(frozen=True, slots=True)
class Accepted:
    """The loss that an operator accepts: everything after a position, or so many bytes of WAL."""

    after: int | None = None
    most: int | None = None

    @classmethod
    def parse(cls, given: str) -> Accepted:
        """Read ``0/3000148``, ``4096`` or ``16MB``.

        :raises InvalidConfig: for anything else; there is no word for "whatever it is"
        """
        if "/" in given:
            return cls(after=lsn_of(given))
        found = _BYTES.match(given)
        if found is None:
            raise InvalidConfig(
                "--accept-data-loss takes the last LSN that must be kept (0/3000148) or bytes of "
                f"WAL (16MB), not {given!r:.40}"
            )
        return cls(most=int(found[1]) * _UNITS[found[2]])


@dataclass(frozen=True, slots=True)
class Loss:
    """What is not on the node that becomes primary.

    :ivar after: commits past this position are not there
    :ivar known: how many bytes of WAL past it are known to have been written elsewhere
    :ivar whole: whether nothing more than what is known can have been acknowledged
    """

    after: int
    known: int
    whole: bool

    def __str__(self) -> str:
        last = f"what was committed after {lsn_text(self.after)}"
        if self.whole:
            return f"{last}, {self.known:,} bytes of WAL" if self.known else "nothing acknowledged"
        known = f", {self.known:,} bytes of WAL at least" if self.known else ""
        return f"{last}{known}; nobody who answers knows how much that is"

    def covered_by(self, accepted: Accepted | None) -> bool:
        """Say whether an operator accepted it."""
        if self.whole and not self.known:
            return True
        if accepted is None:
            return False
        if accepted.after is not None:
            return accepted.after <= self.after
        return self.whole and accepted.most is not None and self.known <= accepted.most


def loss_of(shard: ShardStanding, chosen: Standing, dead: str | None) -> Loss:
    """Return what is lost when a standby takes the place of a primary that is gone.

    :param dead: the former primary; None when every node answers and none was left behind
    A former primary that answers, or that was stopped cleanly, tells how far it wrote; otherwise
    only synchronous replication says that nobody was told of more than the standbys have.
    """
    same = [it for it in shard.nodes if it.system_identifier == chosen.system_identifier]
    ends = [it.reach[1] for it in same if it.answers and it.timeline >= chosen.timeline]
    ended = None if dead is None else shard.node(dead).ended
    told = dead is None or shard.node(dead).answers or ended is not None
    at = chosen.reach[1]
    return Loss(at, max(*ends, ended or 0) - at, told or proven(shard, chosen, dead))


def proven(shard: ShardStanding, chosen: Standing, dead: str | None) -> bool:
    """Say whether the standbys that answer must have every commit that was acknowledged."""
    sync = Sync.parse(chosen.synchronous_standby_names)
    if sync is None or chosen.synchronous_commit not in {"on", "remote_apply", "remote_write"}:
        return False
    answering = [
        it.node for it in shard.standbys if it.system_identifier == chosen.system_identifier
    ]
    return sync.proves(dead or "", answering, [it.node for it in shard.nodes])
