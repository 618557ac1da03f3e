"""The commands on real servers: what they answer, in which form, with which exit code."""

from __future__ import annotations

import json
from uuid import uuid4

import pytest
from fix_router import until

from tenantry import Router
from tenantry_ops.cluster import read_places
from tenantry_ops.locking import operation
from tenantry_ops.migrate import migrate
from tenantry_ops.migrate.state import schema_state
from tenantry_schema.errors import OperationInProgress
from tenantry_schema.naming import OPERATOR


@pytest.fixture
def told(tenantry, laid_out):
    """Call a command with ``--json`` on the fleet's folder, and return what it says."""

    def call(*arguments):
        ended = tenantry(*arguments, "--json", "--dir", laid_out.directory)
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)

    return call


def test_tenants_and_agents(told):
    """Create, list, show, where, mint, and where an agent's id leads."""
    name = f"acme-{uuid4().hex[:8]}"
    (made,) = told("tenants", "create", name)
    assert told("tenants", "create", name) == [made]
    assert told("tenants", "where", name) == [made]
    assert told("tenants", "where", made["tenant"]) == [made]
    assert told("tenants", "show", name)[0]["tenant"] == made["tenant"]
    listed = told("tenants", "list", "--after", name[:-1], "--limit", "1")
    assert [it["name"] for it in listed] == [name]
    agents = told("agents", "mint", name, "--count", "3")
    assert len({it["agent"] for it in agents}) == 3
    for agent in agents:
        (found,) = told("agents", "where", agent["agent"])
        assert (found["bucket"], found["shard"]) == (made["bucket"], made["shard"])
    shown = told("map", "show")
    assert len([it for it in shown["buckets"] if it["from"] is not None]) == 16


def test_what_commits_are_to_survive(told):
    """Declared, with what is left to a superuser: nothing, where it is so already."""
    assert told("shard", "durability", "shard-1", "local") == {
        "shard": "shard-1",
        "durability": "local",
        "remaining": [],
    }


def test_open_routers_hear_of_a_zone(told, laid_out):
    """By the map's new version; the same again changes nothing."""
    with Router(laid_out.catalog_conninfo(), poll_interval=3600) as router:
        # It listens from then on.
        until(lambda: router._follower._following is not None)
        try:
            (done,) = told("shard", "zone", "shard-1", "shard-1-b", "east")
            assert (done["shard"], done["node"], done["zone"]) == ("shard-1", "shard-1-b", "east")
            until(lambda: router.map.version == done["map_version"])
            zones = {it.name: it.zone for it in router.map.shards[1].nodes}
            assert zones == {"shard-1-a": None, "shard-1-b": "east"}
            assert told("shard", "zone", "shard-1", "shard-1-b", "east") == [done]
        finally:
            (cleared,) = told("shard", "zone", "shard-1", "shard-1-b", "--clear")
    assert (cleared["zone"], cleared["map_version"]) == (None, done["map_version"] + 1)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("tenants", "show", "nobody-here"), 1, "UnknownTenant"),
        (("tenants", "where", "nobody-here"), 1, "UnknownTenant"),
        (("tenants", "show", "nul\0"), 2, "InvalidKey"),
        (("tenants", "create", "'; DROP TABLE x"), 2, "InvalidKey"),
        (("tenants", "create", "nul\0"), 2, "InvalidKey"),
        (("tenants", "create", "x" * 5000), 2, "InvalidKey"),
        (("tenants", "create", "fine", "--key", "not-a-uuid"), 2, "InvalidKey"),
        (("tenants", "list", "--limit", "0"), 2, "--limit"),
        (("tenants", "list", "--after", "nul\0"), 2, "InvalidKey"),
        (("agents", "mint", "nobody-here"), 1, "UnknownTenant"),
        (("agents", "mint", "x", "--count", "many"), 2, "--count"),
        (("agents", "where", "not-an-id"), 2, "InvalidKey"),
        (("agents", "where", "0b1e6a52-7f0e-4c1b-9d55-3f6a2c8e9d10"), 2, "InvalidKey"),
        (("init", "--buckets", "0"), 2, "InvalidConfig"),
        (("init", "--buckets", "100000"), 2, "InvalidConfig"),
        (("init", "--models", "no_such_module:x"), 2, "InvalidConfig"),
        (("init", "--models", "json"), 2, "InvalidConfig"),
        (("init", "--models", "json:loads"), 2, "InvalidConfig"),
        (("init", "--buckets", "16"), 1, "AlreadyExists"),
        (("migrate", "--revision", "no-such-revision"), 1, "MigrationFailed"),
        (("migrate", "--jobs", "0"), 2, "--jobs"),
        (("schema", "revision", "no package for it"), 2, "InvalidConfig"),
        (("fleet", "up", "--shards", "0"), 2, "InvalidConfig"),
        (("shard", "zone", "shard-9", "shard-1-b", "east"), 1, "it has shard-1, shard-2"),
        (("shard", "zone", "shard-1", "shard-2-b", "east"), 1, "it has shard-1-a, shard-1-b"),
        (("shard", "zone", "shard-1", "shard-1-b"), 2, "--clear"),
        (("shard", "zone", "shard-1", "shard-1-b", "east", "--clear"), 2, "--clear"),
        (("shard", "zone", "shard-1", "shard-1-b", ""), 2, "1 to 63 characters"),
        (("shard", "zone", "shard-1", "shard-1-b", "x" * 64), 2, "1 to 63 characters"),
    ],
    ids=lambda it: " ".join(it)[:40] if isinstance(it, tuple) else None,
)
def test_bad_calls_say_what_is_wrong(tenantry, laid_out, arguments, code, said):
    """One message on standard error, nothing on the other, an exit code that a script can trust."""
    ended = tenantry(*arguments, "--dir", laid_out.directory)
    assert (ended.returncode, said in ended.stderr) == (code, True), ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""


COMMANDS = [
    ("doctor",),
    ("map", "show"),
    ("tenants", "list"),
    ("tenants", "show", "acme"),
    ("tenants", "where", "acme"),
    ("tenants", "create", "acme"),
    ("agents", "mint", "acme"),
    ("agents", "where", "01990000-0000-8000-8000-000000000000"),
    ("shard", "list"),
    ("shard", "zone", "shard-1", "shard-1-b", "east"),
    ("migrate",),
    ("schema", "diff"),
    ("schema", "revision", "why"),
    ("init",),
    ("fleet", "status"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_fleet_says_what_to_do(tenantry, tmp_path, monkeypatch, command):
    """Neither a catalog nor an embedded fleet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TENANTRY_CATALOG", raising=False)
    ended = tenantry(*command)
    assert ended.returncode == (1 if command[0] in {"init", "fleet"} else 2)
    assert "tenantry fleet up" in ended.stderr


@pytest.mark.parametrize(
    "command", [it for it in COMMANDS if it[0] not in {"init", "fleet"}], ids=" ".join
)
def test_a_catalog_that_is_down_is_one_message(tenantry, command):
    """Where it was looked for, and no password."""
    nowhere = "host=127.0.0.1 port=1 dbname=x user=u password=hunter2"
    ended = tenantry(*command, "--catalog", nowhere)
    assert ended.returncode == 1
    assert ended.stderr.startswith("CatalogUnavailable: the catalog at 127.0.0.1:1/x")
    assert "check that it runs" in ended.stderr
    assert "--catalog or TENANTRY_CATALOG" in ended.stderr
    assert "hunter2" not in ended.stderr


@pytest.mark.slow
def test_migrate_again_changes_nothing(laid_out, told):
    """Every database is at its head, and one migration runs at a time."""
    catalog = laid_out.catalog_conninfo(OPERATOR)
    heads = [("catalog", "0001_catalog"), ("shard-1", "0001_shard"), ("shard-2", "0001_shard")]
    assert [(it["database"], it["revision"]) for it in told("migrate")] == heads
    assert schema_state(catalog).behind == []
    with operation(catalog, "migrate", "fleet"), pytest.raises(OperationInProgress):
        migrate(catalog)


def test_init_at_every_start_of_a_service(laid_out, tenantry):
    """``--if-missing`` leaves a fleet that is there as it is, whatever the other options say."""
    held = read_places(laid_out.catalog_conninfo(OPERATOR)).map
    command = ("init", "--if-missing", "--buckets", "4", "--json", "--dir", laid_out.directory)
    ended = tenantry(*command)
    assert json.loads(ended.stdout) == {"fleet": str(held.fleet_id), "made": False}
    assert len(read_places(laid_out.catalog_conninfo(OPERATOR)).map) == len(held)
