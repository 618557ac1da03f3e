"""One call of a service: its route, its wishes, its deadline, and what an error in it means.

Everything here is decided without I/O; the doors do what it says.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from psycopg import sql

from tenantry.errors import (
    AlreadyDone,
    BucketMoved,
    DeadlineExceeded,
    NotFound,
    OutcomeUnknown,
    ReadInterrupted,
    ShardUnavailable,
    TenantryError,
    UnknownActor,
    UnknownAgent,
    UnknownTenant,
)
from tenantry.prelude import on_primary, on_replica, with_operation
from tenantry.receipt import Receipt
from tenantry.sqlstates import (
    first_line,
    is_disk_full,
    is_done_before,
    is_fence,
    is_interrupted,
    is_lost,
    is_read_only,
    is_unknown_actor,
    is_unknown_agent,
    is_unknown_tenant,
    refusal_within,
)

if TYPE_CHECKING:
    from tenantry.map import Map, Placement
    from tenantry.prelude import Awaited, Prelude
    from tenantry.reads import Declared
    from tenantry.route import Route
    from tenantry.truth import Guarded
    from tenantry.watchdog import Alarm, Watchdog

#: Seconds beyond a call's deadline in which an error may be explained.
EXPLAINED_S = 0.5


class Earlier(NamedTuple):
    """What the attempts before one leave to it.

    :ivar deadline: the seconds that all of them have together
    :ivar without: replicas that failed
    :ivar failure: how the last of them failed, in words
    """

    deadline: float
    without: frozenset[str] = frozenset()
    failure: str = ""


class Call:
    """A route that is being used until a deadline.

    :ivar tenant_text: the text of the tenant's key, None until it is known
    :ivar read: what was declared, or None for the primary
    :ivar token: whether the caller wants to know where its commit stands
    :ivar operation: the key of what is done, or None
    :ivar replica: the replica that serves the call now, or None for the primary
    :ivar proven: the position that the replica is known to have replayed, so that it is not asked
    :ivar awaited: what the replica itself waits for before it answers, or None
    :ivar line: the timeline on which the primary must be to answer for the token, None without one
    :ivar earlier: what attempts before this one left to it
    :ivar unheard: whether the replica has not answered anything of the call yet
    :ivar committed: whether its COMMIT was acknowledged along with its last statement
    """

    __slots__ = (
        "_alarm",
        "_fired",
        "_watchdog",
        "awaited",
        "committed",
        "deadline",
        "earlier",
        "line",
        "of",
        "operation",
        "proven",
        "read",
        "receipt",
        "replica",
        "route",
        "tenant_text",
        "token",
        "unheard",
        "when",
    )

    def __init__(self, route: Route, of: Map, deadline: float, watchdog: Watchdog) -> None:
        self.route = route
        self.of = of
        self.deadline = deadline
        self.when = time.monotonic() + deadline
        self.read: Declared | None = None
        self.token = False
        self.operation: str | None = None
        self.replica: str | None = None
        self.proven: int | None = None
        self.awaited: Awaited | None = None
        self.line: int | None = None
        self.earlier = Earlier(deadline)
        self.unheard = self.committed = False
        self.tenant_text = route.tenant_text
        self.receipt = Receipt(map_version=of.version)
        self._watchdog = watchdog
        self._alarm: Alarm | None = None
        self._fired = False

    @property
    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.when - time.monotonic())

    @property
    def opening(self) -> Prelude:
        """What opens the transaction where the call is served now."""
        if self.read is None:
            prelude = self.route.prelude
            if self.operation is None:
                return prelude
            return with_operation(prelude, self.operation, self.of.key_type)
        # Also on the primary: what a caller declares must not work by chance.
        reading = self.route.reading
        if self.replica is not None and self.proven is None:
            return on_replica(reading, self.awaited)
        if self.replica is None and self.line is not None:
            return on_primary(reading)
        return reading

    def watch(self, conn: Guarded) -> None:
        """Let the watchdog end the connection at the deadline; watching it twice is allowed."""
        if self._alarm is not None and self._alarm.conn is conn:
            return
        conn.call = self
        conn.wants_position = self.token
        self.receipt.node = conn.node_label
        self._alarm = self._watchdog.arm(conn, self.when)

    def unwatch(self) -> None:
        """Stop watching, and remember whether the deadline came."""
        alarm = self._alarm
        if alarm is not None:
            self._watchdog.disarm(alarm)
            self._fired = self._fired or alarm.fired
            self._alarm = None

    def found_tenant(self, text: str) -> None:
        """Check the answer of an agent's prelude.

        :raises UnknownAgent: when the agent's bucket has no such agent
        """
        if not text:
            raise UnknownAgent(
                f"no agent {self.route.agent} lives in bucket {self.route.placement.schema}: "
                "check the id, or register the agent first"
            )

    def suspects_fence(self, error: BaseException) -> bool:
        """Say whether the map must be reloaded before the error can be explained."""
        return not self._fired and not self.committed and is_fence(error)

    def explain(self, error: BaseException) -> Exception | None:
        """Return the error that the caller should get instead, or None to keep the original."""
        if self.committed or isinstance(error, OutcomeUnknown):
            # What a work raises after its COMMIT is its own.
            return None
        if self._fired:
            failure = self.earlier.failure
            return DeadlineExceeded(
                f"the call for {self.route.subject} did not end within its deadline of "
                f"{self.earlier.deadline:g} s; it was ended before COMMIT, so nothing was committed"
                + (f" (the attempt before: {failure})" if failure else "")
            )
        if isinstance(error, TenantryError):
            return None
        if (refusal := refusal_within(error)) is not None:
            return refusal
        if self.replica is not None and (is_interrupted(error) or is_fence(error)):
            return ReadInterrupted(
                f"replica {self.replica} ended a read of {self.route.subject} "
                f"({first_line(error)}): read again"
            )
        return self._explain_refused(error) or self._explain_primary(error)

    def _explain_refused(self, error: BaseException) -> Exception | None:
        if is_unknown_tenant(error):
            return UnknownTenant(
                f"Postgres refused a row because {self.route.subject} does not live in bucket "
                f"{self.route.placement.schema}: create the tenant first, or check the key"
            )
        if is_unknown_agent(error):
            return UnknownAgent(self._unknown("agent"))
        if is_unknown_actor(error):
            return UnknownActor(self._unknown("actor"))
        if self.operation is not None and is_done_before(error):
            return AlreadyDone(
                f"operation {self.operation!r:.80} of {self.route.subject} was committed before: "
                "nothing was repeated"
            )
        return None

    def _explain_primary(self, error: BaseException) -> Exception | None:
        if is_lost(error):
            return ShardUnavailable(
                f"the connection to shard {self.route.placement.shard} was lost before COMMIT "
                f"({first_line(error)}): nothing was committed for {self.route.subject}"
            )
        if self.read is None and (is_read_only(error) or is_disk_full(error)):
            return ShardUnavailable(
                f"the primary of shard {self.route.placement.shard} takes no writes now "
                f"({first_line(error)}): nothing was committed for {self.route.subject}; see "
                "`tenantry doctor`"
            )
        return None

    def _unknown(self, what: str) -> str:
        return (
            f"Postgres refused a row that names an {what} which {self.route.subject} does not "
            f"have: check the id, or register the {what} first"
        )

    def moved(self, of: Map) -> BucketMoved | None:
        """Compare the route with a newer map; return the error when its bucket has a new home."""
        before = self.route.placement
        try:
            after = self._placement(of)
        except NotFound:
            return None
        return None if after == before else self.gone(f"{after.schema} on shard {after.shard}")

    def gone(self, whither: str) -> BucketMoved:
        """Return the error that says where the bucket of this call went."""
        before = self.route.placement
        return BucketMoved(
            f"bucket {before.schema} is no longer served by shard {before.shard} but is {whither}: "
            f"nothing was committed for {self.route.subject}; open a new session"
        )

    def _placement(self, of: Map) -> Placement:
        if self.route.tenant is not None:
            return of.of_tenant(self.route.tenant)
        if self.route.agent is None:  # pragma: no cover  a route has one or the other
            raise UnknownTenant(f"{self.route.subject} names no tenant")
        return of.of_agent(self.route.agent)


def serves_query(schema: str) -> bytes:
    """Return the statement that asks a shard whether it still serves a bucket's schema."""
    return (
        sql.SQL("SELECT coalesce(has_schema_privilege(to_regnamespace({})::oid, 'USAGE'), false)")
        .format(sql.Literal(schema))
        .as_bytes(None)
    )
