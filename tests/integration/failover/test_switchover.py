"""Planned changes of primary on real servers; the catalog lies on the very shard."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psycopg
import pytest
from fix_failover import anywhere, findings, kill_at, lost, names, server, tenantry, writing

from tenantry_ops.failover import FleetHands, rewire, switchover
from tenantry_ops.failover.durability import declare
from tenantry_ops.failover.journal import SWITCHOVER, begun
from tenantry_ops.fleet import Fleet
from tenantry_schema.errors import (
    FailoverRefused,
    FailoverUnfinished,
    OperationInProgress,
    UnknownNode,
    UnknownShard,
)
from tenantry_schema.naming import OPERATOR

pytestmark = pytest.mark.slow

A, B, C = (f"shard-1-{letter}" for letter in "abc")


@pytest.fixture(scope="module")
def fleet(own_fleet):
    return own_fleet(replicas=2)


@pytest.fixture
def catalog(fleet):
    return fleet.catalog_conninfo(OPERATOR)


@pytest.fixture
def hands(fleet):
    return FleetHands(fleet)


@pytest.fixture
def first(fleet, catalog, hands):
    """Begin with the first server as primary, and find the shard healthy at the end."""
    switchover(catalog, "shard-1", A, hands=hands)
    yield A
    assert findings(fleet) == {}


def settled(fleet, primary):
    return names(fleet, "primary") == [primary] and len(names(fleet, "replica")) == 2


def test_there_and_back_under_writers(fleet, catalog, hands, first):
    """Both ways no acknowledged row is lost; doing what is done already changes nothing."""
    for target, level in ((B, "local"), (A, "two-nodes")):
        declare(catalog, "shard-1", level)
        with writing(anywhere(fleet)) as writers:
            done = switchover(catalog, "shard-1", target, hands=hands)
        assert (done.primary, done.remaining) == (target, ())
        assert lost(anywhere(fleet), writers) == set()
        assert settled(fleet, target)
        assert switchover(catalog, "shard-1", target, hands=hands).steps == ()
    declare(catalog, "shard-1", "local")


def test_killed_in_the_middle_and_run_again(fleet, catalog, hands, first):
    """Stopped, caught up, promoted, certified, resumed: the second run finishes from there."""
    with writing(anywhere(fleet)) as writers:
        for step in (4, 5, 6, 7, 9):
            target = B if names(fleet, "primary") != [B] else A
            kill_at(fleet, step, "switchover", name="shard-1", to=target)
            assert begun(catalog, SWITCHOVER, "shard-1")["to"] == target
            done = switchover(catalog, "shard-1", target, hands=hands)
            assert done.primary == target
            assert settled(fleet, target)
            assert begun(catalog, SWITCHOVER, "shard-1") is None
    assert lost(anywhere(fleet), writers) == set()


def test_killed_and_then_wanted_elsewhere(fleet, catalog, hands, first):
    """What was begun is led back first: the old primary had been stopped."""
    kill_at(fleet, 4, "switchover", name="shard-1", to=B)
    assert names(fleet, "primary") == []
    done = switchover(catalog, "shard-1", C, hands=hands)
    assert done.steps[:2] == (f"start again {A}", f"lead clients to {A}")
    assert settled(fleet, C)


def test_killed_and_then_the_target_is_gone(fleet, catalog, hands, first):
    """It is not known whether it was promoted: nothing is done until it is back."""
    kill_at(fleet, 4, "switchover", name="shard-1", to=B)
    fleet.stop_server(server(fleet, B))
    with pytest.raises(FailoverRefused, match="may be promoted: start it"):
        switchover(catalog, "shard-1", B, hands=hands)
    assert names(fleet, "primary") == []
    fleet.start_server(server(fleet, B))
    assert switchover(catalog, "shard-1", B, hands=hands).primary == B
    assert settled(fleet, B)


def test_a_replica_that_hangs_makes_it_go_back(fleet, catalog, hands, first):
    """The old primary cannot send its last WAL: it serves again, with every acknowledged row."""
    with psycopg.connect(fleet.superuser_conninfo(server(fleet, B))) as conn:
        (frozen,) = conn.execute("SELECT pid FROM pg_stat_wal_receiver").fetchone()
    with writing(anywhere(fleet)) as writers:
        os.kill(frozen, signal.SIGSTOP)
        try:
            with pytest.raises(FailoverUnfinished, match=r"taken back.*shard-1-a is primary"):
                switchover(catalog, "shard-1", B, hands=hands, pause_s=1)
        finally:
            os.kill(frozen, signal.SIGCONT)
    assert lost(anywhere(fleet), writers) == set()
    assert begun(catalog, SWITCHOVER, "shard-1") is None


def test_servers_that_are_not_ours(fleet, catalog, hands, first):
    """SQL closes the old primary; the rest is said, and the old primary never writes again."""
    with writing(anywhere(fleet)) as writers:
        done = switchover(catalog, "shard-1", B)
    assert lost(anywhere(fleet), writers) == set()
    assert done.primary == B
    assert len(done.remaining) == 2
    assert "touch PGDATA/standby.signal" in done.remaining[0]
    assert "is a deposed primary" in findings(fleet)[f"node {A}"]
    again = switchover(catalog, "shard-1", B)
    assert len(again.remaining) == 2
    for node in (A, C):
        assert rewire(catalog, "shard-1", node, hands=hands).remaining == ()
    assert settled(fleet, B)


def test_a_hook_rewires_what_is_not_ours(fleet, catalog, hands, first, tmp_path):
    """It is told by its environment, and believed only when the node really follows."""
    told = tmp_path / "told"
    hook = tmp_path / "hook.py"
    hook.write_text(
        f"#!/usr/bin/env python3\nimport os\nopen({str(told)!r}, 'a').write("
        "os.environ['TENANTRY_NODE'] + ' ' + os.environ['TENANTRY_PRIMARY_PORT'] + '\\n')\n"
        "raise SystemExit(3)\n"
    )
    hook.chmod(0o755)
    with pytest.raises(FailoverUnfinished, match=r"was promoted.*ended with 3"):
        switchover(catalog, "shard-1", B, hook=str(hook))
    assert told.read_text() == f"{C} {server(fleet, B).port}\n"
    assert switchover(catalog, "shard-1", B, hands=hands).primary == B
    assert settled(fleet, B)


def test_refusals(fleet, catalog, hands, first):
    """Nothing is changed, and each says why."""
    with pytest.raises(UnknownShard, match="it has shard-1"):
        switchover(catalog, "shard-9", B, hands=hands)
    with pytest.raises(UnknownNode, match=C):
        switchover(catalog, "shard-1", "shard-1-z", hands=hands)
    with psycopg.connect(anywhere(fleet, user=OPERATOR), autocommit=True) as conn:
        conn.execute("SELECT pg_advisory_lock(hashtext('tenantry shard'), hashtext('shard-1'))")
        with pytest.raises(OperationInProgress):
            switchover(catalog, "shard-1", B, hands=hands)
    with psycopg.connect(anywhere(fleet, user="postgres"), autocommit=True) as conn:
        conn.execute("SELECT pg_create_logical_replication_slot('mv_1', 'pgoutput')")
        with pytest.raises(FailoverRefused, match="mv_1"):
            switchover(catalog, "shard-1", B, hands=hands)
        conn.execute("SELECT pg_drop_replication_slot('mv_1')")
    assert settled(fleet, A)


def test_the_commands(fleet, first):
    """Exit codes and what is printed; the fleet's own commands stay right."""
    ended = tenantry(fleet, "shard", "switchover", "shard-1", "--to", B, "--json")
    assert (ended.returncode, '"primary": "shard-1-b"' in ended.stdout) == (0, True), ended.stderr
    assert f"promote {B}" in ended.stderr
    listed = tenantry(fleet, "shard", "list")
    assert "an acknowledged commit survives" in listed.stdout
    assert tenantry(fleet, "fleet", "status").returncode == 0
    assert tenantry(fleet, "shard", "switchover", "shard-1", "--to", "nobody").returncode == 1
    healthy = tenantry(fleet, "doctor")
    assert (healthy.returncode, "acknowledges survives" in healthy.stdout) == (0, True)


def test_down_and_up_again(fleet, catalog, first):
    """A fleet whose primary has changed comes back as it was."""
    switchover(catalog, "shard-1", B, hands=FleetHands(fleet))
    fleet.down()
    again = Fleet.up(Path(fleet.directory))
    assert settled(again, B)
    fleet._children.update(again._children)
