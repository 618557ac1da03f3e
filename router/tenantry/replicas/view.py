"""What the samples of a shard's nodes say together: who takes writes, who may answer. Pure.

The rules (design, sections 1 and 5):

- A node that says it is of another shard, or of another cluster than the first primary was, has no
  say, whatever role it has.
- The role is what Postgres says. Two nodes that take writes are a split brain, whatever their
  timelines: nothing is guessed.
- A timeline never goes back: once timeline 2 was seen, a node on timeline 1 that takes writes alone
  is a deposed primary, not the primary.
- A replica counts when it is of the primary's cluster and has replayed the primary's own line of
  history; a position on another line proves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from tenantry.replicas.lag import Trail

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tenantry.map import Node, Shard
    from tenantry.tokens import Line


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a server says it is when it is connected to.

    :ivar started: its start, as Postgres writes it: another start is another life
    :ivar home: the fleet and the shard that it says it is of, or nothing
    """

    system: int
    started: str
    home: str


class Sample(NamedTuple):
    """What a node answered to one question.

    :ivar sent: monotonic seconds just before it was asked
    :ivar position: of a primary what it has written, of a replica what it has replayed
    :ivar timeline: of a primary its own; of a replica the newest that it has replayed the row of
    :ivar certified: the newest timeline in its table of lineage, or None
    """

    sent: float
    recovery: bool
    read_only: bool
    position: int
    timeline: int | None
    certified: int | None


class ReplicaState(NamedTuple):
    """A replica that answers, on the primary's line of history.

    :ivar sent: the moment before which it had not been asked yet for its position
    """

    node: Node
    position: int
    sent: float


@dataclass(frozen=True, slots=True)
class ShardState:
    """What is known of a shard at one moment: immutable, replaced by the next.

    :ivar primary: the one node that takes writes, or None
    :ivar system: the system identifier of the shard's cluster, None before a primary was seen
    :ivar writable: every node that takes writes: more than one is a split brain
    :ivar timeline: the newest timeline that was ever seen, 0 before the first
    :ivar refused: node -> why it is not used
    :ivar trail: where the primary stood when, on its current timeline
    :ivar settled: whether every node has answered or failed to, and the lineage is known
    """

    primary: Node | None = None
    system: int | None = None
    writable: tuple[Node, ...] = ()
    timeline: int = 0
    replicas: tuple[ReplicaState, ...] = ()
    refused: dict[str, str] = field(default_factory=dict)
    lineage: tuple[Line, ...] = ()
    trail: Trail = field(default_factory=Trail)
    settled: bool = False

    @property
    def split(self) -> bool:
        """Whether more than one node takes writes."""
        return len(self.writable) > 1


class ShardView:
    """Everything that the nodes of a shard have answered so far; the sampler's own."""

    def __init__(self, shard: Shard) -> None:
        self.nodes = {node.name: node for node in shard.nodes}
        self._home = shard.home
        self._system: int | None = None
        self._identities: dict[str, Identity] = {}
        self._samples: dict[str, Sample] = {}
        self._lost: dict[str, str] = {}
        #: node -> the life in which it was seen in recovery.
        self._watched: dict[str, str] = {}
        self._timeline = 0
        self._trail_of: tuple[str, int] | None = None
        self._trail = Trail()
        self.lineage: tuple[Line, ...] = ()

    def identified(self, node: str, identity: Identity) -> None:
        """Take in who a node is: asked once for each connection."""
        self._identities[node] = identity

    def noted(self, node: str, sample: Sample) -> None:
        """Take in what a node answered."""
        self._samples[node] = sample
        self._lost.pop(node, None)
        if sample.recovery:
            self._watched[node] = self._identities[node].started

    def lost(self, node: str, why: str) -> None:
        """Take in that a node does not answer any more."""
        self._samples.pop(node, None)
        self._lost[node] = why

    def uncertified(self) -> tuple[str, str | None] | None:
        """Return the primary whose timeline nobody wrote down, and its life if it was watched."""
        state = self.state()
        if state.primary is None:
            return None
        name = state.primary.name
        sample = self._samples[name]
        if sample.certified == sample.timeline:
            return None
        started = self._identities[name].started
        return name, started if self._watched.get(name) == started else None

    def state(self) -> ShardState:
        """Return what is known now."""
        foreign = self._foreign()
        writable = [
            name
            for name, it in self._samples.items()
            if not it.recovery and not it.read_only and name not in foreign
        ]
        self._timeline = max((self._timeline, *map(self._timeline_of, writable)))
        refused = {**self._lost, **foreign}
        primary = self._primary(writable, refused)
        replicas = () if primary is None else tuple(self._replicas(primary, refused))
        return ShardState(
            primary=None if primary is None else self.nodes[primary],
            system=self._system,
            writable=tuple(self.nodes[it] for it in sorted(writable)),
            timeline=self._timeline,
            replicas=replicas,
            refused=refused,
            lineage=self.lineage,
            trail=self._trail,
            settled=self._settled(primary),
        )

    def _foreign(self) -> dict[str, str]:
        """Return the nodes that are listed by mistake, and why they have no say."""
        found = {}
        for name in self._samples:
            who = self._identities[name]
            if who.home != self._home:
                found[name] = f"it says that it is of fleet and shard {who.home or '(none)'}"
            elif self._system not in (None, who.system):
                found[name] = (
                    f"it belongs to another cluster (system identifier {who.system}, not "
                    f"{self._system}); if the shard was made anew on purpose, restart this process"
                )
        return found

    def _settled(self, primary: str | None) -> bool:
        if len(self._samples) + len(self._lost) < len(self.nodes):
            return False
        current = self.lineage[-1].timeline if self.lineage else 0
        return primary is None or current == self._timeline

    def _timeline_of(self, node: str) -> int:
        return self._samples[node].timeline or 0

    def _primary(self, writable: list[str], refused: dict[str, str]) -> str | None:
        if len(writable) != 1:
            return None
        (name,) = writable
        sample = self._samples[name]
        if self._timeline_of(name) < self._timeline:
            refused[name] = (
                f"it takes writes on timeline {sample.timeline}, but timeline {self._timeline} was "
                "seen: it was deposed"
            )
            return None
        if self._trail_of != (name, self._timeline):
            self._trail_of, self._trail = (name, self._timeline), Trail()
        self._trail.note(sample.sent, sample.position)
        self._system = self._identities[name].system
        return name

    def _replicas(self, primary: str, refused: dict[str, str]) -> Iterable[ReplicaState]:
        refused |= self._foreign()
        for name, sample in self._samples.items():
            if name == primary or name in refused:
                continue
            if not sample.recovery:
                refused[name] = "it is a read-only primary, not a replica"
            elif sample.certified != self._timeline:
                refused[name] = f"it has not replayed the beginning of timeline {self._timeline}"
            else:
                yield ReplicaState(self.nodes[name], sample.position, sample.sent)
