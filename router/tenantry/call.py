"""One call of a service: its route, its deadline, and what an error in it means.

Everything here is decided without I/O; the doors do what it says.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from tenantry.errors import (
    BucketMoved,
    DeadlineExceeded,
    NotFound,
    OutcomeUnknown,
    ShardUnavailable,
    TenantryError,
    UnknownAgent,
    UnknownTenant,
)
from tenantry.sqlstates import database_error, is_fence, is_unknown_tenant

if TYPE_CHECKING:
    from tenantry.connection import Guarded
    from tenantry.map import Map, Placement
    from tenantry.route import Route
    from tenantry.watchdog import Alarm, Watchdog


class Call:
    """A route that is being used until a deadline."""

    __slots__ = ("_alarm", "_fired", "_watchdog", "deadline", "of", "route", "when")

    def __init__(self, route: Route, of: Map, deadline: float, watchdog: Watchdog) -> None:
        self.route = route
        self.of = of
        self.deadline = deadline
        self.when = time.monotonic() + deadline
        self._watchdog = watchdog
        self._alarm: Alarm | None = None
        self._fired = False

    @property
    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.when - time.monotonic())

    def watch(self, conn: Guarded) -> None:
        """Let the watchdog end the connection at the deadline."""
        self._alarm = self._watchdog.arm(conn, self.when)

    def unwatch(self) -> None:
        """Stop watching, and remember whether the deadline came."""
        alarm = self._alarm
        if alarm is not None:
            self._watchdog.disarm(alarm)
            self._fired = self._fired or alarm.fired
            self._alarm = None

    def found_tenant(self, text: str | None) -> str | None:
        """Check the answer of an agent's prelude.

        :raises UnknownAgent: when the agent's bucket has no such agent
        """
        if self.route.agent is not None and not text:
            raise UnknownAgent(
                f"no agent {self.route.agent} lives in bucket {self.route.placement.schema}: "
                "check the id, or register the agent first"
            )
        return text

    def suspects_fence(self, error: BaseException) -> bool:
        """Say whether the map must be reloaded before the error can be explained."""
        return not self._fired and is_fence(error)

    def explain(self, error: BaseException) -> Exception | None:
        """Return the error that the caller should get instead, or None to keep the original."""
        if isinstance(error, OutcomeUnknown):
            return None
        if self._fired:
            return DeadlineExceeded(
                f"the call for {self.route.subject} did not end within its deadline of "
                f"{self.deadline:g} s; it was ended before COMMIT, so nothing was committed"
            )
        if isinstance(error, TenantryError):
            return None
        if is_unknown_tenant(error):
            return UnknownTenant(
                f"Postgres refused a row because {self.route.subject} does not live in bucket "
                f"{self.route.placement.schema}: create the tenant first, or check the key"
            )
        if _lost(error):
            return ShardUnavailable(
                f"the connection to shard {self.route.placement.shard} was lost before COMMIT "
                f"({_first_line(error)}): nothing was committed for {self.route.subject}"
            )
        return None

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


def _lost(error: BaseException) -> bool:
    found = database_error(error)
    if found is None:
        return False
    # The driver's own errors about a broken stream carry no SQLSTATE; class 57P is a server that
    # is shut down, restarted or ended the session.
    lost_stream = isinstance(found, psycopg.OperationalError) and found.sqlstate is None
    return lost_stream or (found.sqlstate or "").startswith(("57P", "08"))


def _first_line(error: BaseException) -> str:
    return (str(database_error(error) or error).splitlines() or [type(error).__name__])[0]
