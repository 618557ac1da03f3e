"""The doctor on real servers that were really broken."""

from __future__ import annotations

import json
import os
import re
import signal
from contextlib import contextmanager

import psycopg
import pytest

from tenantry_ops.cluster import read_places
from tenantry_ops.doctor import examine, gather_facts
from tenantry_schema.naming import CATALOG_DATABASE, OPERATOR, SHARD_DATABASE


@pytest.fixture(scope="module", autouse=True)
def forgotten(laid_out):
    """Forget the routers of processes that other tests killed: they count for a minute."""
    server = laid_out.shards[0].primary
    with psycopg.connect(laid_out.superuser_conninfo(server, CATALOG_DATABASE)) as conn:
        conn.execute("DELETE FROM tenantry.routers")


@pytest.fixture
def doctor(tenantry, laid_out):
    """Call the doctor, and return its exit code and its findings."""

    def call():
        ended = tenantry("doctor", "--json", "--dir", laid_out.directory)
        assert ended.stderr == ""
        return ended.returncode, json.loads(ended.stdout)["findings"]

    return call


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
    (
        1,
        SHARD_DATABASE,
        "ALTER TABLE {bucket}.agents NO FORCE ROW LEVEL SECURITY",
        "ALTER TABLE {bucket}.agents FORCE ROW LEVEL SECURITY",
        "row-level security",
    ),
    (
        1,
        SHARD_DATABASE,
        "REVOKE USAGE ON SCHEMA {bucket} FROM tenantry_app",
        "GRANT USAGE ON SCHEMA {bucket} TO tenantry_app",
        "may not be used",
    ),
    (
        1,
        SHARD_DATABASE,
        "ALTER SCHEMA {bucket} RENAME TO hidden",
        "ALTER SCHEMA hidden RENAME TO {bucket}",
        "is not there",
    ),
    (
        1,
        SHARD_DATABASE,
        "GRANT USAGE ON SCHEMA fleet TO tenantry_app",
        "REVOKE USAGE ON SCHEMA fleet FROM tenantry_app",
        "may use the parents",
    ),
    (
        1,
        SHARD_DATABASE,
        "ALTER ROLE tenantry_app BYPASSRLS",
        "ALTER ROLE tenantry_app NOBYPASSRLS",
        "step around",
    ),
    (
        1,
        SHARD_DATABASE,
        "ALTER ROLE tenantry_operator SET default_transaction_read_only = on",
        "ALTER ROLE tenantry_operator RESET default_transaction_read_only",
        "writable primaries",
    ),
    (
        1,
        SHARD_DATABASE,
        "UPDATE tenantry.alembic_version SET version_num = 'older'",
        "UPDATE tenantry.alembic_version SET version_num = '0001_shard'",
        "revision older",
    ),
]


@pytest.mark.parametrize("case", BROKEN, ids=lambda case: case[-1])
@pytest.mark.slow
def test_what_is_broken_is_found(laid_out, case):
    """Each is named, with what to do next, and is gone once it was mended."""
    shard, dbname, break_it, mend_it, found = case
    catalog = laid_out.catalog_conninfo(OPERATOR)
    bucket = next(it.schema for it in read_places(catalog).map.placements() if it.shard == 2)
    change, back = (it.replace("{bucket}", bucket) for it in (break_it, mend_it))
    with broken(laid_out, shard, dbname, change, back):
        findings = examine(gather_facts(catalog))
    assert any(found in it.problem for it in findings), findings
    assert all(it.next for it in findings)


def test_a_map_with_a_gap_is_a_finding(laid_out, doctor):
    """Routers refuse such a map; the doctor says so, with exit code 1."""
    gap = "UPDATE tenantry.buckets SET state = 'retired', retired_at = now() WHERE number = 4"
    mend = "UPDATE tenantry.buckets SET state = 'serving', retired_at = NULL WHERE number = 4"
    with broken(laid_out, 0, CATALOG_DATABASE, gap, mend):
        code, findings = doctor()
    assert code == 1
    assert findings[0]["object"] == "map"
    assert "a gap" in findings[0]["problem"]


def test_a_router_that_was_killed_is_told_with_its_age(laid_out, doctor):
    """It cannot learn of a new map, which is no fault for longer than a minute."""
    killed = (
        "INSERT INTO tenantry.routers "
        "(id, application, host, pid, map_version, started_at, seen_at) VALUES "
        "(gen_random_uuid(), 'killed', 'far', 7, 0, now(), now() - interval '40 seconds'), "
        "(gen_random_uuid(), 'killed', 'far', 8, 0, now(), now() - interval '80 seconds')"
    )
    forget = "DELETE FROM tenantry.routers WHERE application = 'killed'"
    with broken(laid_out, 0, CATALOG_DATABASE, killed, forget):
        code, findings = doctor()
    assert (code, [it["object"] for it in findings]) == (1, ["router killed (far, pid 7)"])
    assert re.search(
        r"holds map version 0 of \d+, last heard of [45]\d s ago", findings[0]["problem"]
    )
    assert "killed" in findings[0]["next"]


def test_models_that_cannot_be_imported_are_no_fault_of_the_map(laid_out, doctor):
    """The next step is to call the doctor where they are."""
    away = "UPDATE tenantry.fleet SET models = 'no_such_package:Base'"
    back = "UPDATE tenantry.fleet SET models = NULL"
    with broken(laid_out, 0, CATALOG_DATABASE, away, back):
        code, findings = doctor()
    assert (code, [it["object"] for it in findings]) == (1, ["models"])
    assert "No module named 'no_such_package'" in findings[0]["problem"]
    assert "PYTHONPATH" in findings[0]["next"]


def test_nodes_of_several_databases_are_no_fault_of_the_map(laid_out, doctor):
    """The shard is named, and its nodes are to be mended."""
    apart = "UPDATE tenantry.nodes SET dbname = 'postgres' WHERE name = 'shard-2-b'"
    back = "UPDATE tenantry.nodes SET dbname = 'tenantry' WHERE name = 'shard-2-b'"
    with broken(laid_out, 0, CATALOG_DATABASE, apart, back):
        code, findings = doctor()
    assert code == 1
    assert "map" not in {it["object"] for it in findings}
    (found,) = (it for it in findings if "must share one database" in it["problem"])
    assert found["object"] == "shard shard-2"
    assert "tenantry.nodes" in found["next"]


@pytest.mark.slow
def test_a_replica_that_died(laid_out, doctor):
    """One node is named, and its shard still has its primary."""
    (server,) = laid_out.shards[1].replicas
    os.kill(server.pid, signal.SIGKILL)
    laid_out._children[server.name].wait(30)
    try:
        code, findings = doctor()
    finally:
        laid_out.start_server(server)
    assert code == 1
    assert [it["object"] for it in findings] == [f"node {server.name}"]
    assert "does not answer" in findings[0]["problem"]


def test_all_is_well_again(laid_out, doctor, tenantry):
    """Exit code 0 and an empty list; people are told what was looked at."""
    assert doctor() == (0, [])
    ended = tenantry("doctor", "--dir", laid_out.directory)
    assert (ended.returncode, ended.stdout.split(":")[0]) == (0, "healthy")
    told = json.loads(tenantry("doctor", "--json", "--dir", laid_out.directory).stdout)["shards"]
    assert [it["shard"] for it in told] == ["shard-1", "shard-2"]
    for it in told:
        said = f"a commit that {it['shard']} acknowledges survives: {it['survives']}"
        assert said in ended.stdout
