"""The commands as a person calls them, in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from tenantry_ops.cluster import read_places
from tenantry_ops.demo import read_graph
from tenantry_ops.doctor import examine, gather_facts
from tenantry_ops.fleet import Fleet
from tenantry_ops.initialise import InitPlan, embedded_plan, initialise
from tenantry_ops.locking import operation
from tenantry_ops.migrate import migrate
from tenantry_ops.migrate.state import schema_state
from tenantry_schema.errors import (
    AlreadyExists,
    InvalidConfig,
    OperationInProgress,
)
from tenantry_schema.naming import OPERATOR


def tenantry(*arguments, check=True, **options):
    return subprocess.run(
        [sys.executable, "-m", "tenantry_ops", *arguments],
        capture_output=True,
        text=True,
        check=check,
        **options,
    )


def told(*arguments):
    return json.loads(tenantry(*arguments, "--json").stdout)


def test_tenants_and_agents(laid_out):
    """Create, list, show, where, mint, and where an agent's id leads."""
    at = ("--dir", str(laid_out.directory))
    name = f"acme-{uuid4().hex[:8]}"
    (made,) = told("tenants", "create", name, *at)
    assert told("tenants", "create", name, *at) == [made]
    assert told("tenants", "where", name, *at) == [made]
    assert told("tenants", "where", made["tenant"], *at) == [made]
    assert told("tenants", "show", name, *at)[0]["tenant"] == made["tenant"]
    listed = told("tenants", "list", "--after", name[:-1], "--limit", "1", *at)
    assert [it["name"] for it in listed] == [name]
    agents = told("agents", "mint", name, "--count", "3", *at)
    for agent in agents:
        (found,) = told("agents", "where", agent["agent"], *at)
        assert (found["bucket"], found["shard"]) == (made["bucket"], made["shard"])
    shown = told("map", "show", *at)
    assert len([it for it in shown["buckets"] if it["from"] is not None]) == 16


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("tenants", "show", "nobody-here"), 1, "UnknownTenant"),
        (("tenants", "create", "'; DROP TABLE x"), 2, "InvalidKey"),
        (("tenants", "create", "x" * 5000), 2, "InvalidKey"),
        (("tenants", "create", "fine", "--key", "not-a-uuid"), 2, "InvalidKey"),
        (("agents", "where", "not-an-id"), 2, "InvalidKey"),
        (("init", "--buckets", "0"), 2, "InvalidConfig"),
        (("init", "--buckets", "100000"), 2, "InvalidConfig"),
        (("init", "--models", "no_such_module:x"), 2, "InvalidConfig"),
        (("init",), 1, "AlreadyExists"),
    ],
)
def test_bad_calls_say_what_is_wrong(laid_out, arguments, code, said):
    """One message on standard error, and an exit code that a script can trust."""
    ended = tenantry(*arguments, "--dir", str(laid_out.directory), check=False)
    assert (ended.returncode, said in ended.stderr) == (code, True), ended.stderr
    assert "Traceback" not in ended.stderr


def test_no_fleet_says_what_to_do(tmp_path):
    """Neither a catalog nor an embedded fleet."""
    ended = tenantry("map", "show", cwd=tmp_path, check=False, env={"PATH": os.environ["PATH"]})
    assert ended.returncode == 2
    assert "tenantry fleet up" in ended.stderr


def test_migrate_again_changes_nothing(laid_out):
    """Every database is at its head, and one migration runs at a time."""
    catalog = laid_out.catalog_conninfo(OPERATOR)
    assert schema_state(catalog).behind == []
    assert list(migrate(catalog)) == ["catalog", "shard-1", "shard-2"]
    assert schema_state(catalog).behind == []
    with operation(catalog, "migrate", "fleet"), pytest.raises(OperationInProgress):
        migrate(catalog)


def test_one_of_two_inits_wins(fleet):
    """The second is refused while the first runs, and after it."""
    catalog = fleet.catalog_conninfo(OPERATOR)
    with operation(catalog, "init", "fleet"), pytest.raises(OperationInProgress):
        initialise(embedded_plan(fleet, buckets=16))


def test_an_existing_fleet_is_not_made_again(laid_out):
    """Nothing is changed."""
    before = read_places(laid_out.catalog_conninfo(OPERATOR)).map
    with pytest.raises(AlreadyExists):
        initialise(embedded_plan(laid_out, buckets=4))
    again = told("init", "--if-missing", "--buckets", "4", "--dir", str(laid_out.directory))
    assert again == {"fleet": str(before.fleet_id), "made": False}
    after = read_places(laid_out.catalog_conninfo(OPERATOR)).map
    assert (before.fleet_id, len(before)) == (after.fleet_id, len(after))


@pytest.mark.parametrize("buckets", [0, -1, 65_537, 100_000, True, "16"])
def test_impossible_numbers_of_buckets(laid_out, buckets):
    """Named, with what is allowed."""
    with pytest.raises(InvalidConfig, match="buckets"):
        embedded_plan(laid_out, buckets=buckets)
    with pytest.raises(InvalidConfig):
        InitPlan("host=x", ())


def test_a_healthy_fleet(laid_out):
    """The doctor finds nothing, and says so."""
    ended = tenantry("doctor", "--dir", str(laid_out.directory), check=False)
    assert "healthy" in ended.stdout, ended.stdout
    assert ended.returncode == 0


@pytest.mark.parametrize(
    ("break_it", "mend_it", "found"),
    [
        (
            "ALTER TABLE {schema}.agents NO FORCE ROW LEVEL SECURITY",
            "ALTER TABLE {schema}.agents FORCE ROW LEVEL SECURITY",
            "row-level security",
        ),
        (
            "REVOKE USAGE ON SCHEMA {schema} FROM tenantry_app",
            "GRANT USAGE ON SCHEMA {schema} TO tenantry_app",
            "may not be used",
        ),
        (
            "ALTER SCHEMA {schema} RENAME TO hidden",
            "ALTER SCHEMA hidden RENAME TO {schema}",
            "is not there",
        ),
        (
            "GRANT USAGE ON SCHEMA fleet TO tenantry_app",
            "REVOKE USAGE ON SCHEMA fleet FROM tenantry_app",
            "may use the parents",
        ),
        ("ALTER ROLE tenantry_app BYPASSRLS", "ALTER ROLE tenantry_app NOBYPASSRLS", "step around"),
        (
            "ALTER SYSTEM SET default_transaction_read_only = on",
            "ALTER SYSTEM RESET default_transaction_read_only",
            "writable primaries",
        ),
        (
            "UPDATE tenantry.alembic_version SET version_num = 'older'",
            "UPDATE tenantry.alembic_version SET version_num = '0001_shard'",
            "revision older",
        ),
    ],
)
def test_the_doctor_finds_what_is_broken(laid_out, break_it, mend_it, found):
    """Each broken thing is named, with what to do next; once mended it is gone."""
    catalog = laid_out.catalog_conninfo(OPERATOR)
    places = read_places(catalog)
    # Not the shard that holds the catalog, which must stay writable for the doctor to ask.
    placement = next(it for it in places.map.placements() if it.shard == 2)
    name = places.map.shards[2].name
    server = next(it for it in laid_out.shards if it.name == name).primary
    superuser = laid_out.superuser_conninfo(server, "tenantry")
    with psycopg.connect(superuser, autocommit=True) as conn:
        conn.execute("SET default_transaction_read_only = off")
        try:
            conn.execute(break_it.format(schema=placement.schema))
            settle(conn)
            findings = examine(gather_facts(catalog))
        finally:
            conn.execute(mend_it.format(schema=placement.schema))
            settle(conn)
    assert any(found in it.problem for it in findings), findings
    assert all(it.next for it in findings)
    assert examine(gather_facts(catalog)) == []


def settle(conn):
    """Let the server read its configuration; a new connection sees what is in force."""
    conn.execute("SELECT pg_reload_conf()")
    conn.execute("SELECT pg_sleep(0.3)")


@pytest.mark.slow
def test_the_demo_leaves_nothing(tmp_path):
    """Under the time it promises, with everything refused that must be."""
    with tempfile.TemporaryDirectory(prefix="tenantry-test-") as made:
        Path(made).chmod(0o755)
        graph = tmp_path / "graph.json"
        graph.write_text(json.dumps({"a": ["b", "c"], "b": ["c"], "c": []}))
        place = Path(made) / "fleet"
        ended = tenantry(
            "demo", "--dir", str(place), "--graph", str(graph), "--tenants", "3", "--json"
        )
        summary = json.loads(ended.stdout)
        assert not place.exists()
    assert summary["graph"] == {"source": "graph.json", "tasks": 3, "edges": 3}
    assert sum(it["tasks"] for it in summary["rows_per_shard"]) == 9
    assert len(summary["refused"]) == 6
    assert summary["seconds"] < 60


@pytest.mark.slow
def test_an_interrupted_demo_leaves_nothing():
    """Ctrl-C in the middle: no process, no folder."""
    with tempfile.TemporaryDirectory(prefix="tenantry-test-") as made:
        Path(made).chmod(0o755)
        place = Path(made) / "fleet"
        with subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tenantry_ops",
                "demo",
                "--dir",
                str(place),
                "--tenants",
                "2000",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as child:
            servers = wait_for_servers(place, child)
            child.send_signal(signal.SIGINT)
            assert child.wait(60) != 0
        assert [it.pid for it in servers] == [None] * len(servers)
        assert not place.exists()


def wait_for_servers(place, child):
    """Wait until the fleet's primary answers."""
    while child.poll() is None:
        if (place / "fleet.toml").exists():
            fleet = Fleet.load(place)
            if fleet.servers[-1].pid is not None:
                return fleet.servers
        try:
            child.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
    raise AssertionError("the demo ended by itself")


def test_graphs_are_what_is_installed(tmp_path):
    """The distributions of this environment; a bad file is named."""
    graph = read_graph("installed")
    assert ("alembic", "sqlalchemy") in graph.edges
    assert "tenantry" in graph.names
    bad = tmp_path / "bad.json"
    for text in ("[]", "{", '{"a": 1}', "{}", '{"a\\u0000": []}'):
        bad.write_text(text)
        with pytest.raises(InvalidConfig):
            read_graph(str(bad))
