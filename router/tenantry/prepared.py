"""Prepared statements that belong to a bucket.

Postgres throws a prepared statement's plan away when it finds another ``search_path`` than the one
it was planned under (``RevalidateCachedQuery`` in plancache.c). One statement shared by two buckets
was therefore planned anew at every turn: a point read took 1.2 times as long as with a statement
for each bucket (docs/benchmarks.md). So the bucket is part of what names a prepared statement.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg._preparing import PrepareManager

if TYPE_CHECKING:
    from psycopg._preparing import Key
    from psycopg._queries import PostgresQuery


class BucketStatements(PrepareManager):
    """psycopg's table of prepared statements, told apart by bucket."""

    def __init__(self, threshold: int | None, kept: int) -> None:
        super().__init__()
        self.prepare_threshold = threshold
        self.prepared_max = kept
        #: The schema that the open transaction is routed to.
        self.schema = b""

    def key(self, query: PostgresQuery) -> Key:  # type: ignore[override]  # there a staticmethod
        """Name a statement by its bucket, its text and its types."""
        return (self.schema + query.query, query.types)
