"""The end of a transaction that only read: its COMMIT is sent, and answered while nobody waits.

What was read was given away already, and Postgres let the transaction write nothing, so there is
nothing that the answer could acknowledge or take back: on a replica, or for a read over several
shards, which are not serializable anyway. Whoever has the connection next takes the answer in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tenantry.flight import arrive, depart
from tenantry.opening import Openable

if TYPE_CHECKING:
    from psycopg.abc import PQGen


class Partable(Openable):
    """What both colours share: a COMMIT that nobody waits for."""

    #: Whether a COMMIT was sent and its answer not taken in.
    parting: bool = False

    @property
    def parted(self) -> bool:
        """Whether no answer is missing; one that has come is taken in."""
        pgconn = self.pgconn
        while self.parting and not pgconn.is_busy():
            self.parting = pgconn.get_result() is not None
        return not self.parting

    def _part(self) -> PQGen[None]:
        if not self.nothing_to_commit():
            self.pgconn.send_query(b"COMMIT")
            self.parting = True
            yield from depart(self.pgconn)

    def _await_parting(self) -> PQGen[None]:
        while self.parting:
            self.parting = (yield from arrive(self.pgconn)) is not None
