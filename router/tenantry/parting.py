"""The end of a transaction that only read: its COMMIT is sent, and answered while nobody waits.

What was read was given away already, and Postgres let the transaction write nothing, so there is
nothing that the answer could acknowledge or take back: on a replica, or for a read over several
shards, which are not serializable anyway. The connection stays in pipeline mode, so what opens the
next transaction may be sent before that answer is there, and is answered after it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.pq import ConnStatus, ExecStatus

from tenantry.flight import depart, drain

if TYPE_CHECKING:
    from psycopg.abc import PQGen


class Partable(psycopg.BaseConnection[Any]):
    """What both colours share: a COMMIT that nobody waits for."""

    #: Whether a COMMIT was sent and its answer not taken in.
    parting: bool = False
    #: The moment on the monotonic clock at which it was sent.
    parting_since: float = 0.0

    @property
    def parted(self) -> bool:
        """Whether no answer is missing; one that has come is taken in."""
        pgconn = self.pgconn
        while self.parting and not pgconn.is_busy() and pgconn.status == ConnStatus.OK:
            result = pgconn.get_result()
            if result is not None and result.status == ExecStatus.PIPELINE_SYNC:
                pgconn.exit_pipeline_mode()
                self.parting = False
        return not self.parting

    def send_parting(self) -> PQGen[None]:
        """Send COMMIT."""
        self.pgconn.enter_pipeline_mode()
        self.pgconn.send_query_params(b"COMMIT", None)
        self.pgconn.pipeline_sync()
        self.parting, self.parting_since = True, time.monotonic()
        yield from depart(self.pgconn)

    def await_parting(self) -> PQGen[None]:
        """Wait for the answer that is missing, if one is."""
        if self.parting:
            yield from drain(self.pgconn)
            self.parting = False
