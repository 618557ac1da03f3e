"""Which statements may have written, as far as their texts tell."""

from __future__ import annotations

import pytest
from psycopg._queries import PostgresQuery
from psycopg.adapt import Transformer

from tenantry.prepared import BucketStatements

WRITES = [
    "INSERT INTO t VALUES (1)",
    "WITH gone AS (DELETE FROM t RETURNING a) SELECT a FROM gone",
    "select a into b from t",
    "SELECT a FROM t FOR UPDATE",
    "CALL written()",
    "TRUNCATE t",
    "CREATE TABLE t (a int)",
    "-- says nothing\nSELECT 1",
    "SELECT pg_logical_emit_message(true, 'tenantry', '')",
]
READS = ["SELECT 1", " with a as (select 1) table a", "SHOW search_path", "SET LOCAL a.b = 'c'"]


@pytest.mark.parametrize("text", WRITES + READS)
def test_what_may_write(text):
    """A word too many is allowed; a function that writes is not seen."""
    statements = BucketStatements(None, 10)
    query = PostgresQuery(Transformer())
    query.convert(text, None)
    statements.get(query)
    assert statements.wrote is (text in WRITES)
