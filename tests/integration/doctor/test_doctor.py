"""The doctor on real servers that were really broken."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import psycopg
import pytest

from tenantry_ops.doctor import examine, gather_facts
from tenantry_schema.naming import CATALOG_DATABASE, OPERATOR, SHARD_DATABASE


def doctor(fleet):
    ended = subprocess.run(
        [sys.executable, "-m", "tenantry_ops", "doctor", "--json", "--dir", str(fleet.directory)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in ended.stderr
    return ended.returncode, json.loads(ended.stdout)


@contextmanager
def broken(fleet, shard, dbname, break_it, mend_it):
    """Break something as superuser, and mend it afterwards."""
    conninfo = fleet.superuser_conninfo(fleet.shards[shard].primary, dbname)
    with psycopg.connect(conninfo, autocommit=True) as conn:
        conn.execute(break_it)
        try:
            yield
        finally:
            conn.execute(mend_it)
    assert examine(gather_facts(fleet.catalog_conninfo(OPERATOR))) == []


BROKEN = [
    (
        1,
        SHARD_DATABASE,
        "UPDATE tenantry.shard SET shard_id = shard_id + 7",
        "UPDATE tenantry.shard SET shard_id = shard_id - 7",
        "says that it is shard 9 of",
    ),
    (
        1,
        SHARD_DATABASE,
        "UPDATE tenantry.ranges SET bucket = 1000 WHERE bucket = 5",
        "UPDATE tenantry.ranges SET bucket = 5 WHERE bucket = 1000",
        "differ from the map for 2 buckets, such as 5",
    ),
    (
        1,
        SHARD_DATABASE,
        "GRANT tenantry_owner TO tenantry_app",
        "REVOKE tenantry_owner FROM tenantry_app",
        "may act as the owner",
    ),
    (
        1,
        SHARD_DATABASE,
        "ALTER ROLE tenantry_read NOLOGIN",
        "ALTER ROLE tenantry_read LOGIN",
        "log in",
    ),
    (
        0,
        CATALOG_DATABASE,
        "INSERT INTO tenantry.operations (kind, subject, step) VALUES ('migrate', 'fleet', 's1')",
        "DELETE FROM tenantry.operations WHERE kind = 'migrate' AND state = 'running'",
        "nobody works on it",
    ),
    (
        0,
        CATALOG_DATABASE,
        "INSERT INTO tenantry.nodes (shard_id, name, host, port, dbname) "
        "VALUES (2, 'ghost', '127.0.0.1', 1, 'tenantry')",
        "DELETE FROM tenantry.nodes WHERE name = 'ghost'",
        "does not answer",
    ),
    (
        0,
        CATALOG_DATABASE,
        "UPDATE tenantry.buckets SET generation = 2 WHERE number = 3",
        "UPDATE tenantry.buckets SET generation = 1 WHERE number = 3",
        "not in the map",
    ),
    (
        1,
        SHARD_DATABASE,
        "CREATE SCHEMA bucket_0000; GRANT USAGE ON SCHEMA bucket_0000 TO tenantry_app",
        "DROP SCHEMA bucket_0000",
        "2 shards at once",
    ),
]


@pytest.mark.parametrize("case", BROKEN, ids=lambda case: case[-1])
def test_what_is_broken_is_found(laid_out, case):
    """Each is named, and is gone once it was mended."""
    *what, found = case
    with broken(laid_out, *what):
        findings = examine(gather_facts(laid_out.catalog_conninfo(OPERATOR)))
        assert any(found in it.problem for it in findings), findings


def test_a_map_with_a_gap_is_a_finding(laid_out):
    """Routers refuse such a map; the doctor says so, with exit code 1."""
    gap = "UPDATE tenantry.buckets SET state = 'retired', retired_at = now() WHERE number = 4"
    mend = "UPDATE tenantry.buckets SET state = 'serving', retired_at = NULL WHERE number = 4"
    with broken(laid_out, 0, CATALOG_DATABASE, gap, mend):
        code, findings = doctor(laid_out)
    assert code == 1
    assert findings[0]["object"] == "map"
    assert "a gap" in findings[0]["problem"]


def test_a_replica_that_died(laid_out):
    """One node is named, and its shard still has its primary."""
    (server,) = laid_out.shards[1].replicas
    os.kill(server.pid, signal.SIGKILL)
    laid_out._children[server.name].wait(30)
    try:
        code, findings = doctor(laid_out)
    finally:
        laid_out.start_server(server)
    assert code == 1
    assert [it["object"] for it in findings] == [f"node {server.name}"]
    assert "does not answer" in findings[0]["problem"]


def test_all_is_well_again(laid_out):
    """Exit code 0 and an empty list."""
    assert doctor(laid_out) == (0, [])
