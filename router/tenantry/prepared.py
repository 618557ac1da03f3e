"""Prepared statements that belong to a bucket.

Postgres throws a prepared statement's plan away when it finds another ``search_path`` than the one
it was planned under (``RevalidateCachedQuery`` in plancache.c). One statement shared by two buckets
was therefore planned anew at every turn: a point read took 1.2 times as long as with a statement
for each bucket (docs/benchmarks.md). So the bucket is part of what names a prepared statement.

Every statement passes here on its way to the server, so here is noted which of them may write: the
server's answer does not tell, because ``WITH … AS (UPDATE …) SELECT`` is answered as a SELECT.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import count
from typing import TYPE_CHECKING, Any

from psycopg._preparing import PrepareManager

if TYPE_CHECKING:
    from psycopg import BaseConnection
    from psycopg._preparing import Key
    from psycopg._queries import PostgresQuery
    from psycopg.abc import PQGen


# A text without values may be several statements, or a COPY, which no flight can carry.
_ONE = re.compile(rb"\s*(select|insert|update|delete|merge|with|values)\b[^;]*", re.IGNORECASE)
# A word too many costs one more message at COMMIT. A function that writes is not seen, but for the
# one by which an outcome is made durable (outcome.py).
_WRITES = re.compile(
    rb"\b(insert|update|delete|merge|into|pg_logical_emit_message)\b", re.IGNORECASE
)
_READS = re.compile(rb"\s*(select|with|values|table|show|set|fetch|close)\b", re.IGNORECASE)


class BucketStatements(PrepareManager):
    """psycopg's table of prepared statements, told apart by bucket."""

    def __init__(self, threshold: int | None, kept: int) -> None:
        super().__init__()
        self.prepare_threshold = threshold
        self.prepared_max = kept
        #: The schema that the open transaction is routed to.
        self.schema = b""
        #: Whether a statement of the open transaction may have written.
        self.wrote = False
        #: Whether a COMMIT is on its way, after which nobody waits for what is to be forgotten.
        self.leaving = False
        #: What opens and ends transactions, by its text: the names under which the server knows it.
        self.own: dict[bytes, bytes] = {}
        self._named = count()

    def name_own(self, text: bytes) -> bytes:
        """Return a new name for a statement of our own; the server is to be told it now."""
        # Never a second time: the server may still know a name that was forgotten here.
        name = self.own[text] = b"tenantry_%d" % next(self._named)
        return name

    def clear(self) -> bool:
        """Forget all names, and have the server forget them."""
        named = bool(self.own)
        self.own.clear()
        forgot = super().clear()
        if named and not forgot:
            self._to_flush.append(None)
        return named or forgot

    def maintain_gen(self, conn: BaseConnection[Any]) -> PQGen[None]:
        """Let the server forget what was replaced; not behind a COMMIT, but with the next one."""
        if self.leaving:
            return
        if None in self._to_flush:
            # What was named since is forgotten along with everything else.
            self.own.clear()
            self._names.clear()
        yield from super().maintain_gen(conn)

    def get(self, query: PostgresQuery, prepare: bool | None = None) -> Any:  # noqa: FBT001  theirs
        """Say how a statement is to be sent."""
        self.wrote = self.wrote or _may_write(query.query)
        return super().get(query, prepare)

    def key(self, query: PostgresQuery) -> Key:  # type: ignore[override]  # there a staticmethod
        """Name a statement by its bucket, its text and its types."""
        return (self.schema + query.query, query.types)


@lru_cache(maxsize=4096)
def is_one(text: bytes) -> bool:
    """Say whether a text without values is certainly one statement, which reads or writes rows."""
    return _ONE.fullmatch(text) is not None


@lru_cache(maxsize=4096)
def _may_write(text: bytes) -> bool:
    return _READS.match(text) is None or _WRITES.search(text) is not None
