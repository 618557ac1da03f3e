"""Where the nodes of a shard stand, as they told it: pure values and what follows from them.

Positions in the WAL are bytes since its beginning; they mean something on one timeline of one
system identifier only, so comparisons go by (timeline, position).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tenantry_schema.errors import InvalidConfig, UnknownNode

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

_LSN = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})\Z")


def lsn_text(position: int) -> str:
    """Return a position as Postgres writes it."""
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"


def lsn_of(text: str) -> int:
    """Return the position that Postgres writes so.

    :raises InvalidConfig: for anything but two hexadecimal numbers with a stroke between them
    """
    found = _LSN.match(text)
    if found is None:
        raise InvalidConfig(f"an LSN is written like 0/3000148, not {text!r:.40}")
    return (int(found[1], 16) << 32) | int(found[2], 16)


@dataclass(frozen=True, slots=True)
class Replica:
    """Who receives WAL from a node, as ``pg_stat_replication`` has it."""

    name: str | None
    state: str | None
    sync: str | None


@dataclass(frozen=True, slots=True)
class Slot:
    """A replication slot; it holds back the removal of WAL from ``kept_from`` on."""

    name: str
    logical: bool
    active: bool
    kept_from: int | None


@dataclass(frozen=True, slots=True)
class Standing:
    """One node: why it does not answer, or where it stands.

    :ivar alive: whether a server is there all the same: it refuses us, or is starting
    :ivar closed: whether its own configuration makes transactions read-only
    :ivar read_only: whether a transaction that says nothing cannot write on it
    :ivar written: how far a primary has written
    :ivar received: how far a replica has the WAL on its disk
    :ivar ended: where a server that was stopped cleanly wrote its last checkpoint; known of ours
    :ivar connected: whether a replica has reached somebody, who may still refuse to serve it
    :ivar streaming: whether a replica is served by somebody: it was told something, or was not
        refused within a second
    :ivar certified: timelines of its history -> where the one before ended, or None for unknown
    :ivar sees_others: whether it was allowed to say who replicates from it
    """

    node: str
    error: str | None = None
    alive: bool = False
    system_identifier: str | None = None
    in_recovery: bool = False
    closed: bool = False
    read_only: bool = False
    timeline: int = 0
    started: datetime | None = None
    written: int | None = None
    received: int | None = None
    replayed: int | None = None
    ended: int | None = None
    connected: bool = False
    streaming: bool = False
    replicas: tuple[Replica, ...] = ()
    slots: tuple[Slot, ...] = ()
    synchronous_commit: str = "on"
    synchronous_standby_names: str = ""
    fsync: bool = True
    sees_others: bool = True
    certified: tuple[tuple[int, int | None], ...] = ()

    @property
    def answers(self) -> bool:
        """Whether it told where it stands."""
        return self.error is None

    @property
    def primary(self) -> bool:
        """Whether it takes itself for a primary, writable or not."""
        return self.answers and not self.in_recovery

    @property
    def reach(self) -> tuple[int, int]:
        """How far its history goes: timeline, then position."""
        return self.timeline, max(self.written or 0, self.received or 0)

    @property
    def is_certified(self) -> bool:
        """Whether the shard's lineage has its timeline."""
        return any(timeline == self.timeline for timeline, _ in self.certified)


@dataclass(frozen=True, slots=True)
class ShardStanding:
    """All nodes of a shard.

    :ivar durability: what the catalog promises of its commits: ``local`` or ``two-nodes``
    """

    name: str
    durability: str
    nodes: tuple[Standing, ...]

    def node(self, name: str) -> Standing:
        """Return a node.

        :raises UnknownNode: when the shard has none of that name
        """
        for it in self.nodes:
            if it.node == name:
                return it
        names = ", ".join(it.node for it in self.nodes) or "no nodes"
        raise UnknownNode(f"shard {self.name} has no node {name!r:.80}: it has {names}")

    @property
    def primary(self) -> Standing | None:
        """The node whose history is the shard's: of all primaries, the one that went farthest."""
        return max((it for it in self.nodes if it.primary), key=_reach, default=None)

    @property
    def standbys(self) -> tuple[Standing, ...]:
        """The nodes that answer and are in recovery."""
        return tuple(it for it in self.nodes if it.answers and it.in_recovery)

    @property
    def deposed(self) -> tuple[Standing, ...]:
        """Primaries whose history another node of the same cluster has gone past."""
        head = self.primary
        return tuple(
            it
            for it in self.nodes
            if it.primary
            and head is not None
            and it.system_identifier == head.system_identifier
            and it.timeline < head.timeline
        )

    def follows(self, node: Standing) -> bool:
        """Say whether a node is a replica on the history of the shard's primary."""
        head = self.primary
        return (
            head is not None
            and node.answers
            and node.in_recovery
            and node.streaming
            and node.system_identifier == head.system_identifier
            and node.timeline == head.timeline
        )


def farthest(nodes: Iterable[Standing]) -> Standing | None:
    """Return the node whose history goes farthest, or None of none."""
    return max(nodes, key=_reach, default=None)


def _reach(node: Standing) -> tuple[int, int]:
    return node.reach
