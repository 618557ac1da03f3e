"""What can be done to servers beyond SQL: everything to our own, nothing to others'."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

import psycopg
from psycopg import sql

from tenantry_ops.failover.ask import stand
from tenantry_ops.fleet import replica
from tenantry_ops.fleet.build import upstream
from tenantry_schema.errors import FleetError
from tenantry_schema.naming import slot_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from tenantry_ops.fleet import Fleet
    from tenantry_ops.fleet.process import Server

_FOLLOWS_S = 5.0
_LOOK_S = 0.02
_SLOT = """
SELECT pg_create_physical_replication_slot(%(name)s, true)
WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = %(name)s)
"""
_DROP_SLOTS = """
SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
WHERE slot_type = 'physical' AND NOT active AND slot_name = ANY (%s)
"""


class Hands(Protocol):
    """Stop, start and rewire servers."""

    @property
    def ours(self) -> frozenset[str]:
        """Return the names of the nodes that can be handled."""

    def ended(self, node: str) -> int | None:
        """Return where a server that was stopped cleanly as a primary ended."""

    def stop(self, node: str, patience_s: float) -> None:
        """Stop a server cleanly: its replicas get all that it wrote; end it after the patience."""

    def fence(self, node: str) -> None:
        """End a server at once, and keep it from being started as a primary."""

    def start(self, node: str) -> None:
        """Start a server as it is configured."""

    def rewire(self, node: str, primary: str, switched: int | None) -> None:
        """Make a server the replica of another.

        :param switched: where the primary's history left the former one, if that is known
        """


class NoHands:
    """Servers that are not ours: SQL is all there is."""

    ours: frozenset[str] = frozenset()

    def ended(self, node: str) -> int | None:  # noqa: ARG002  nobody can look
        """Return that it is not known."""
        return None

    def fence(self, node: str) -> None:
        """Refuse."""
        raise FleetError(f"{node} is not a server of this fleet: it cannot be handled")

    start = fence

    def stop(self, node: str, patience_s: float) -> None:  # noqa: ARG002
        """Refuse."""
        self.fence(node)

    def rewire(self, node: str, primary: str, switched: int | None) -> None:  # noqa: ARG002
        """Refuse."""
        self.fence(node)


class FleetHands:
    """The servers of an embedded fleet, found by the names of their nodes."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._servers = {server.name: server for server in fleet.servers}
        self._tools = (fleet.programs(), fleet.identity)
        self._passfile = fleet.replication_passfile

    @property
    def ours(self) -> frozenset[str]:
        """All servers of the fleet."""
        return frozenset(self._servers)

    def ended(self, node: str) -> int | None:
        """Ask pg_controldata; a server that was fenced was not stopped cleanly as a primary."""
        server = self._servers.get(node)
        if server is None or server.pid is not None or replica.is_standby(server):
            return None
        return replica.clean_end(server, *self._tools)

    def stop(self, node: str, patience_s: float) -> None:
        """Ask for a fast shutdown, and wait for it."""
        self._fleet.stop_server(self._servers[node], patience_s)

    def fence(self, node: str) -> None:
        """Kill it, unless it is a standby; from now on it would start as one."""
        server = self._servers[node]
        if not replica.is_standby(server):
            self._fleet.kill_server(server)
            replica.keep_from_writing(server, self._fleet.identity)

    def start(self, node: str) -> None:
        """Start it as it is configured."""
        self._fleet.start_server(self._servers[node])

    def rewire(self, node: str, primary: str, switched: int | None) -> None:
        """Redirect, follow, rewind or copy: the first that makes it stream."""
        server, head = self._servers[node], self._servers[primary]
        with psycopg.connect(self._fleet.superuser_conninfo(head), autocommit=True) as conn:
            conn.execute("SET synchronous_commit = local")
            # pg_rewind reads the timeline from the last checkpoint.
            conn.execute("CHECKPOINT")
            conn.execute(_SLOT, {"name": slot_name(node)})
            timeline = stand(primary, conn).timeline
        ways = self._ways(server, head, switched)
        if not any(self._tried(way, server, timeline, last=way is ways[-1]) for way in ways):
            raise FleetError(f"{node} does not receive from {primary}: see {server.log}")
        replica.discard_old(server)
        with psycopg.connect(self._fleet.superuser_conninfo(server), autocommit=True) as conn:
            conn.execute(_DROP_SLOTS, ([slot_name(it) for it in self._servers],))

    def _ways(self, server: Server, head: Server, switched: int | None) -> list[Callable[[], None]]:
        passfile = self._passfile

        def redirect() -> None:
            with psycopg.connect(self._fleet.superuser_conninfo(server), autocommit=True) as conn:
                told = {
                    "primary_conninfo": upstream(head, server, passfile),
                    "primary_slot_name": slot_name(server.name),
                }
                for name, value in told.items():
                    conn.execute(
                        sql.SQL("ALTER SYSTEM SET {} = {}").format(
                            sql.Identifier(name), sql.Literal(value)
                        )
                    )
                conn.execute("SELECT pg_reload_conf()")

        def follow() -> None:
            self._fleet.stop_server(server)
            replica.follow(server, head, self._fleet.identity, passfile)
            self._fleet.start_server(server)

        def rewind() -> None:
            self._fleet.stop_server(server)
            replica.rewind(server, head, *self._tools, passfile)
            follow()

        def copy() -> None:
            self._fleet.stop_server(server)
            replica.copy_anew(server, head, *self._tools, passfile)
            follow()

        if server.pid is not None and replica.is_standby(server):
            past = switched is not None and self._received(server) > switched
            return [rewind, copy] if past else [redirect, rewind, copy]
        end = self.ended(server.name)
        clean = end is not None and switched is not None and end < switched
        return [follow, rewind, copy] if clean else [rewind, copy]

    def _received(self, server: Server) -> int:
        with psycopg.connect(self._fleet.superuser_conninfo(server)) as conn:
            return stand(server.name, conn).received or 0

    def _tried(self, way: Callable[[], None], server: Server, timeline: int, *, last: bool) -> bool:
        """Try a way; say whether the server follows by it. The last one says why it does not."""
        try:
            way()
            return self._follows(server, timeline)
        except (FleetError, psycopg.OperationalError) as error:
            if last:
                raise FleetError(f"{server.name} cannot be rewired: {error}") from error
            return False

    def _follows(self, server: Server, timeline: int) -> bool:
        until = time.monotonic() + _FOLLOWS_S
        with psycopg.connect(self._fleet.superuser_conninfo(server), autocommit=True) as conn:
            while time.monotonic() < until:
                found = stand(server.name, conn)
                # One whose history has left the primary's is served as well, on its old timeline.
                if found.streaming and found.timeline == timeline:
                    return True
                time.sleep(_LOOK_S)
        return False
