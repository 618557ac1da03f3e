"""Where the connections of one pool lead: to whichever node is a shard's primary, or to a node."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tenantry.conninfo import node_conninfo, pooled_conninfo, primary_conninfo
from tenantry.errors import ShardUnavailable
from tenantry.replicas.plan import FIRST_NEWS_S
from tenantry.sqlstates import first_line, refusal_within

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tenantry.map import Node, Shard
    from tenantry.replicas.watch import ShardWatch
    from tenantry.settings import RouterSettings

#: How long a connection that failed waits for news of its shard before it is tried again.
RETRY_S = 0.25


class Place:
    """A pool's end: how it is reached now, and who is let in.

    :ivar node: None for the primary
    :param pooler: the parsed conninfo of a PgBouncer that everything goes through, or None
    :ivar kept: the most prepared statements of one connection
    :ivar reached: the newest timeline that a pooler's server has answered on
    :ivar last_failure: why the last attempt to connect failed, None after a success
    """

    def __init__(
        self,
        watch: ShardWatch,
        node: Node | None,
        given: dict[str, Any],
        settings: RouterSettings,
        pooler: dict[str, Any] | None = None,
    ) -> None:
        self.watch = watch
        self.node = node
        self.kept = settings.prepared_max
        self.reached = 0
        self.last_failure: str | None = None
        self._attempts: set[object] = set()
        self._given = given
        self._pooler = pooler
        self._application = settings.application
        self._patience = settings.acquire_timeout
        self._known_by = time.monotonic() + FIRST_NEWS_S

    @property
    def shard(self) -> Shard:
        """The shard."""
        return self.watch.shard

    @property
    def name(self) -> str:
        """The shard's name, or the node's."""
        return self.shard.name if self.node is None else self.node.name

    @property
    def description(self) -> str:
        """What this is, for messages."""
        if self.node is not None:
            return f"replica {self.node.name!r} of shard {self.shard.name!r} at {_where(self.node)}"
        nodes = ", ".join(_where(it) for it in self.shard.nodes)
        return f"the primary of shard {self.shard.name!r} at {nodes}"

    @property
    def conninfo(self) -> str:
        """How it is reached: a primary that was found directly, another by libpq's asking.

        Through a pooler by name: it knows where the name leads, and who answers is asked.
        """
        if self._pooler is not None:
            return pooled_conninfo(self._given, self._pooler, self.name, self._application)
        node = self.node or self.watch.state.primary
        if node is not None:
            return node_conninfo(self._given, node, self._application)
        return primary_conninfo(self._given, self.shard.nodes, self._application)

    @property
    def patience(self) -> float:
        """The moment until which connecting is worth trying, on the monotonic clock."""
        return time.monotonic() + self._patience

    @property
    def first_news_by(self) -> float | None:
        """The moment until which news of the shard is worth waiting for before connecting, or None.

        libpq takes the first node that takes writes; whether another one does, too, is known when
        all were asked.
        """
        waits = self.node is None and not self.watch.state.settled and not self.watch.closed
        return self._known_by if waits and time.monotonic() < self._known_by else None

    def admit(self, label: str, system: int, timeline: int, home: str) -> None:
        """Refuse a server that may not serve here.

        :param timeline: a primary's, 0 for a server in recovery
        :param home: what it says of itself in ``tenantry.shard``
        :raises SplitBrain: when two nodes take writes now
        :raises ShardUnavailable: when it is of another cluster, was deposed, or is no primary
        """
        if home != self.shard.home:
            raise ShardUnavailable(
                f"{label} says that it is of fleet and shard {home or '(none)'}, not of "
                f"{self.shard.home} ({self.shard.name!r}): correct tenantry.nodes"
            )
        known = self.watch.state.system
        if known is not None and known != system:
            raise ShardUnavailable(
                f"{label} belongs to another cluster than shard {self.shard.name!r} (its system "
                "identifier differs): correct tenantry.nodes"
            )
        if self.node is None:
            if timeline == 0:
                raise ShardUnavailable(f"{label} is in recovery: it takes no writes")
            self.watch.admit(label, timeline)

    def check_one_primary(self) -> None:
        """Refuse to write while two nodes take writes.

        :raises SplitBrain: naming both
        """
        if self.node is None:
            self.watch.check_one_primary()

    @contextmanager
    def connecting(self) -> Iterator[None]:
        """Note that a connection is being made, until the block ends."""
        attempt = object()
        self._attempts.add(attempt)
        try:
            yield
        finally:
            self._attempts.discard(attempt)

    @property
    def unanswered(self) -> bool:
        """Whether a connection is being made that has neither failed nor succeeded."""
        return bool(self._attempts)

    def failed(self, error: BaseException) -> None:
        """Remember why connecting failed."""
        self.last_failure = first_line(refusal_within(error) or error)

    def worth_retrying(self, until: float) -> bool:
        """Say whether connecting may be tried again: a new primary may be found any moment."""
        return self.node is None and not self.watch.closed and time.monotonic() < until


def _where(node: Node) -> str:
    return f"{node.host}:{node.port}/{node.dbname}"
