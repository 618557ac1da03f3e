"""Who the server of a connection is: asked, and watched for whether it still holds."""

from __future__ import annotations

import select
import time
from typing import TYPE_CHECKING

import psycopg

from tenantry.opening import Openable
from tenantry.pooled import keeps_statements

if TYPE_CHECKING:
    from psycopg.abc import PQGen

    from tenantry.place import Place
    from tenantry.replicas.view import ReplicaState

_WHO = b"""
SELECT system_identifier,
    CASE WHEN pg_is_in_recovery() THEN ''
         ELSE substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) END,
    pid, backend_start,
    (SELECT concat(fleet_id, '/', shard_id) FROM tenantry.shard)
FROM pg_control_system(), pg_stat_get_activity(pg_backend_pid())
"""
_WAIT_FOR_LSN = 190000
#: Seconds after which a server that has not answered a COMMIT is not trusted with more.
_PROMPT_S = 0.02


class Identified(Openable):
    """What both colours share: the place of the connection, and the server that answers there."""

    place: Place
    system: int = 0
    #: The moment on the monotonic clock since when the connection is there.
    since: float = 0.0
    #: The process that serves the connection and its start, or None behind a pooler.
    backend: tuple[int, str] | None = None
    #: The timeline of a primary when it was asked last, 0 for a replica.
    timeline: int = 0

    def note_place(self, place: Place) -> None:
        """Note where the connection leads: called once, when it is there."""
        self.place = place
        info = self.info
        self.node_label = f"{info.host}:{info.port}/{info.dbname}"
        self._look = select.poll()
        self._look.register(self.pgconn.socket, select.POLLIN)
        self.since = time.monotonic()

    @property
    def pooled(self) -> bool:
        """Whether a pooler stands between this process and the server."""
        return self.backend is None

    @property
    def waits_for_lsn(self) -> bool:
        """Whether the server knows WAIT FOR LSN."""
        return self.pgconn.server_version >= _WAIT_FOR_LSN

    @property
    def outdated(self) -> bool:
        """Whether the shard has gone on to a newer timeline since the server was asked."""
        return 0 < self.timeline < self.place.watch.state.timeline

    @property
    def needed(self) -> int | None:
        """The timeline that a primary must have come to, where a pooler might lead elsewhere.

        Its entry may be led to another server at any moment, and later to one that was deposed.
        """
        if self.timeline == 0 or not self.pooled or self.place.node is not None:
            return None
        return max(self.timeline, self.place.watch.state.timeline, self.place.reached)

    def note_timeline(self, timeline: str) -> None:
        """Remember on which timeline a pooler's server has answered: the sampler may not see it."""
        self.place.reached = max(self.place.reached, int(timeline, 16))

    def proven(self, said: ReplicaState | None) -> int | None:
        """Return the position that a replica said to have replayed, if that holds for it here."""
        if said is None or self.backend is None or said.sent < self.since:
            return None
        return said.position

    def follows(self, said: ReplicaState) -> bool:
        """Say whether a flight may follow the last COMMIT, which was sent just now, at once.

        Nothing is asked for that, nor is it looked whether the server has ended the session.
        """
        prompt = self.parting and time.monotonic() - self.parting_since < _PROMPT_S
        return prompt and not self.outdated and self.proven(said) is not None

    @property
    def ended(self) -> bool:
        """Whether the server has ended the connection, without asking it."""
        try:
            # A last message may lie before the end of the stream.
            while self._look.poll(0):
                self.pgconn.consume_input()
        except psycopg.OperationalError:
            return True
        return False

    def _who(self) -> PQGen[None]:
        """Ask the server who it is.

        Behind a pooler the server may be another one than before.

        :raises ShardUnavailable: when it was deposed, or belongs to another cluster
        """
        self.pgconn.send_query(_WHO)
        ((system, timeline, pid, started, home),) = yield from self._answers()
        seen, needed = int(timeline or "0", 16), self.needed
        self.place.admit(self.node_label, int(system), seen, home)
        if needed is not None and seen < needed:
            raise self.deposed(needed)
        self.system, self.timeline = int(system), seen
        # A pooler tells a process id of its own making, and deals sessions out anew.
        self.backend = (int(pid), started) if int(pid) == self.pgconn.backend_pid else None

    def _settle_down(self) -> PQGen[None]:
        yield from self.await_parting()
        if self.outdated:
            yield from self._who()

    def settle(self) -> PQGen[None]:
        """Ask a new connection's server who it is, and prepare nothing that would not be kept.

        :raises Unavailable: when it may not serve here
        """
        yield from self._who()
        if self.pooled and self.prepare_threshold is not None:
            kept = yield from keeps_statements(self.pgconn)
            if not kept:
                self.statements.prepare_threshold = None
