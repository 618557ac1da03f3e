"""The row in ``tenantry.operations`` of a change of primary.

The catalog may lie on the very shard whose primary changes. Then it takes no notes from the moment
the old primary is stopped until the new one is promoted; the plan needs none, because it is made of
what the servers say. A dead primary that held the catalog leaves no row at all: the row is then the
first that the new primary writes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg.conninfo import make_conninfo
from psycopg.types.json import Jsonb

from tenantry_ops.failover.record import open_catalog
from tenantry_ops.locking import connect, take_lock

if TYPE_CHECKING:
    import psycopg

#: Kinds of operations, as the commands are called.
SWITCHOVER = "shard switchover"
FAILOVER = "shard failover"
REWIRE = "shard rewire"

_BEGUN = """
SELECT detail FROM tenantry.operations
WHERE kind = %s AND subject = %s AND state = 'running'
"""
_BEGIN = """
INSERT INTO tenantry.operations AS operation (kind, subject, detail)
VALUES (%(kind)s, %(subject)s, %(detail)s)
ON CONFLICT (kind, subject) WHERE state = 'running'
DO UPDATE SET updated_at = now(), step = 'resumed', detail = excluded.detail
"""
_NOTE = """
UPDATE tenantry.operations SET step = %(step)s, updated_at = now()
WHERE kind = %(kind)s AND subject = %(subject)s AND state = 'running'
"""
_END = """
UPDATE tenantry.operations
SET state = %(state)s, error = %(error)s, updated_at = now(), finished_at = now()
WHERE kind = %(kind)s AND subject = %(subject)s AND state = 'running'
"""


def begun(catalog: str, kind: str, shard: str) -> dict[str, Any] | None:
    """Return what an operation that was killed was to do, or None when there is none."""
    with open_catalog(catalog) as conn:
        row: Any = conn.execute(_BEGUN, (kind, shard)).fetchone()
    return None if row is None else row[0]


class Journal:
    """Notes of one operation on one shard."""

    def __init__(self, kind: str, shard: str) -> None:
        self.kind = kind
        self.shard = shard
        self._conn: psycopg.Connection[tuple[object, ...]] | None = None

    def begin(self, catalog: str, detail: dict[str, Any]) -> None:
        """Write the row, or take it up again.

        :raises CatalogUnavailable: when the catalog has no primary
        :raises OperationInProgress: when another process does the same
        """
        self.go_on(catalog)
        self._write(_BEGIN, detail=Jsonb(detail))

    def go_on(self, catalog: str) -> None:
        """Write to the catalog where it is now."""
        self.close()
        # With the only standby promoted there is nobody left who could confirm a note.
        options = {"target_session_attrs": "read-write", "options": "-c synchronous_commit=local"}
        self._conn = connect(make_conninfo(catalog, **options))
        take_lock(self._conn, self.kind, self.shard)

    def note(self, step: str) -> None:
        """Write which step is done next."""
        self._write(_NOTE, step=step)

    def end(self, state: str, error: str | None = None) -> None:
        """Write how it ended."""
        self._write(_END, state=state, error=error)

    def supersede(self, kind: str) -> None:
        """Write that this operation replaces another on the same shard."""
        values = {"state": "failed", "error": f"superseded by {self.kind}", "kind": kind}
        self._write(_END, **values)

    @property
    def pid(self) -> int | None:
        """The backend that writes, which must outlive the sessions of others."""
        return None if self._conn is None else self._conn.info.backend_pid

    def close(self) -> None:
        """Let go of the catalog, and of the lock."""
        if self._conn is not None:
            self._conn.close()

    def _write(self, statement: str, **values: Any) -> None:
        if self._conn is not None:
            named = {"kind": self.kind, "subject": self.shard, **values}
            self._conn.execute(statement.encode(), named)
