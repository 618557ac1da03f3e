"""One connection of the sampler to one node: never blocks, asks again and again.

It speaks libpq's non-blocking calls directly: at 256 questions a second a driver's cursor would
cost more than all the rest. The questions are simple statements without parameters, so that they
pass any pooler.
"""

from __future__ import annotations

import selectors
import time
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql
from psycopg.pq import ConnStatus, ExecStatus, PGconn, PollingStatus

from tenantry.prelude import LINES
from tenantry.replicas.lag import last_record
from tenantry.replicas.view import Identity, Sample
from tenantry.tokens import parse_lines, parse_lsn

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn as PGconnProtocol
    from psycopg.pq.abc import PGresult

    from tenantry.tokens import Line

_WHO = b"""
SELECT system_identifier, pg_postmaster_start_time(),
    (SELECT concat(fleet_id, '/', shard_id) FROM tenantry.shard),
    pg_size_bytes(current_setting('wal_segment_size'))
FROM pg_control_system()
"""
# In one text: every column more is described in every answer.
_SAMPLE = b"""
SELECT concat(
    pg_is_in_recovery(), ' ', current_setting('transaction_read_only'), ' ',
    CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
         ELSE pg_current_wal_insert_lsn() END, ' ',
    CASE WHEN NOT pg_is_in_recovery()
         THEN substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) END, ' ',
    (SELECT timeline FROM tenantry.lineage ORDER BY id DESC LIMIT 1)
)
"""
_LINEAGE = b"SELECT " + LINES
_CERTIFY = sql.SQL("SELECT tenantry.certify_lineage({})")

_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
_INTEREST = {PollingStatus.READING: _READ, PollingStatus.WRITING: _WRITE}
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 5.0


class LinkBroken(Exception):
    """The node did not answer, or not as a node does."""


#: What a link raises when its node failed.
FAILURES = (LinkBroken, psycopg.Error)


class Link:
    """A connection to a node, and what is being asked on it; raises one of :data:`FAILURES`.

    :ivar awaited: the descriptor and the events that the sampler waits for, or None
    :ivar answer_by: the moment at which the node counts as silent, or None while nothing is asked
    """

    def __init__(self, name: str, conninfo: str, patience: float) -> None:
        self.name = name
        self.answer_by: float | None = None
        self.identity: Identity | None = None
        self.awaited: tuple[int, int] | None = None
        self._conninfo = conninfo.encode()
        self._patience = patience
        self._segment = 1
        self._conn: PGconnProtocol | None = None
        self._question = b""
        self._sent = 0.0
        #: What a sample said last, and what that meant: most say the same as the one before.
        self._said: bytes | None = None
        self._meant: tuple[bool, bool, int, int | None, int | None] | None = None
        self._retry_at = 0.0
        self._pause = _FIRST_PAUSE_S

    @property
    def connected(self) -> bool:
        """Whether the connection is there (it may be answering)."""
        return self._conn is not None and self._conn.status == ConnStatus.OK

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        if self._conn is None:
            raise LinkBroken("there is no connection")
        return self._conn.socket

    def begin(self, now: float) -> int | None:
        """Start what is due: a connection or a question; return what to wait for, or None."""
        if self.answer_by is not None or now < self._retry_at:
            return None
        if self._conn is not None:
            return self.ask(_SAMPLE, now)
        self.answer_by = now + self._patience
        self._conn = PGconn.connect_start(self._conninfo)
        waited_for = self._poll()
        self._conn.nonblocking = 1
        return waited_for

    def ask(self, question: bytes, now: float) -> int:
        """Send a question; return what to wait for."""
        if self._conn is None:
            raise LinkBroken("there is no connection")
        self._question, self._sent, self.answer_by = question, now, now + self._patience
        # A question is short: what the socket takes at once is all of it.
        self._conn.send_query(question)
        return _READ

    def certify(self, watched: str | None, now: float) -> int:
        """Write down where the former timeline ended."""
        return self.ask(_CERTIFY.format(sql.Literal(watched)).as_bytes(None), now)

    def lineage(self, now: float) -> int:
        """Ask for the lines of history."""
        return self.ask(_LINEAGE, now)

    def ready(self) -> int | Identity | Sample | list[Line] | None:
        """Go on where the socket allows it.

        Return what to wait for now, or what was answered; None for an answer without content.
        """
        conn = self._conn
        if conn is None:
            raise LinkBroken("there is no connection")
        if self.identity is None and not self._question:
            waited_for = self._poll()
            return self.ask(_WHO, time.monotonic()) if waited_for == 0 else waited_for
        conn.consume_input()
        if conn.is_busy():
            return _READ
        result = conn.get_result()
        while conn.get_result() is not None:
            pass
        self.answer_by = None
        return self._read(result)

    def close(self, now: float) -> None:
        """Close the connection; it is tried again after a pause."""
        if self._conn is not None:
            self._conn.finish()
            self._conn = None
        self.identity, self._question, self.answer_by, self._said = None, b"", None, None
        self._retry_at = now + self._pause
        self._pause = min(self._pause * 2, _LONGEST_PAUSE_S)

    def _poll(self) -> int:
        """Return what connecting waits for, 0 when it is done."""
        assert self._conn is not None
        status = self._conn.connect_poll()
        if status == PollingStatus.OK:
            return 0
        if status in _INTEREST:
            return _INTEREST[PollingStatus(status)]
        raise LinkBroken(_message(self._conn))

    def _read(self, result: PGresult | None) -> Identity | Sample | list[Line] | None:
        if result is None or result.status != ExecStatus.TUPLES_OK:
            told = b"no answer" if result is None else result.error_message
            raise LinkBroken((told.decode(errors="replace").splitlines() or ["no reason"])[0])
        if self._question is _SAMPLE:
            return self._sample(result.get_value(0, 0))
        row = [_text(result.get_value(0, column)) for column in range(result.nfields)]
        if self._question is _WHO:
            system, started, home, segment = row
            self._segment, self._pause = int(segment), _FIRST_PAUSE_S
            self.identity = Identity(int(system), started, home)
            return self.identity
        return [*parse_lines(row[0])] if self._question is _LINEAGE else None

    def _sample(self, said: bytes | None) -> Sample | None:
        if said != self._said:
            self._said, self._meant = said, self._meaning(*_text(said).split(" "))
        return None if self._meant is None else Sample(self._sent, *self._meant)

    def _meaning(
        self, recovery: str, read_only: str, position: str, timeline: str, certified: str
    ) -> tuple[bool, bool, int, int | None, int | None] | None:
        in_recovery = recovery == "t"
        if in_recovery != (timeline == "") or not position:
            # Promoted between two of the functions, or nothing was replayed yet: ask again.
            return None
        at = parse_lsn(position)
        return (
            in_recovery,
            read_only == "on",
            at if in_recovery else last_record(at, self._segment),
            None if in_recovery else int(timeline, 16),
            int(certified) if certified else None,
        )


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode()


def _message(conn: PGconnProtocol) -> str:
    lines = conn.get_error_message().splitlines()
    return lines[0] if lines else "the connection failed"
