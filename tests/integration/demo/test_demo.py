"""The demo in a process of its own: what it proves, and what it leaves behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from fix_processes import processes, until

from tenantry_ops.cluster import read_places
from tenantry_ops.demo import DemoOptions
from tenantry_ops.doctor import examine, gather_facts
from tenantry_ops.fleet import Fleet
from tenantry_ops.fleet.state import FleetState
from tenantry_schema.errors import InvalidConfig
from tenantry_schema.naming import OPERATOR

GRAPH = {"app": ["lib", "log"], "lib": ["log"], "log": []}


@pytest.fixture
def place(open_folder):
    """A folder that does not exist, below one that every user may enter."""
    return open_folder / "fleet"


@contextmanager
def demo(place, *arguments):
    command = [sys.executable, "-m", "tenantry_ops", "demo", "--dir", str(place), *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as child:
        try:
            yield child
        finally:
            child.kill()


def read_state(place):
    return FleetState.load(place) if (place / "fleet.toml").exists() else None


def sockets_made(place):
    state = read_state(place)
    return state if state is not None and Path(state.sockets).exists() else None


def complete(place):
    state = read_state(place)
    return state if state is not None and state.complete else None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "moment"), [(signal.SIGINT, sockets_made), (signal.SIGTERM, complete)]
)
def test_a_signal_leaves_nothing_behind(place, number, moment):
    """While servers are made, and while work is done: no process, no folder, the shell's code."""
    with demo(place, "--tenants", "5000") as child:
        state = until(child, lambda: moment(place))
        child.send_signal(number)
        _, said = child.communicate(timeout=60)
    assert child.returncode == 128 + number
    assert "nothing is left behind" in said
    assert not place.exists()
    assert not Path(state.sockets).exists()
    assert processes(place) == []


@pytest.mark.slow
def test_a_demo_that_is_kept_can_be_used(place, tmp_path):
    """``--keep``: the servers run on, healthy, with every row; and can be removed."""
    graph = tmp_path / "graph.json"
    graph.write_text(json.dumps(GRAPH))
    arguments = ("--keep", "--graph", str(graph), "--tenants", "3", "--buckets", "5", "--json")
    with demo(place, *arguments) as child:
        printed, said = child.communicate(timeout=120)
    summary = json.loads(printed)
    fleet = Fleet.load(place)
    try:
        assert f"tenantry fleet down --remove --dir {place}" in said
        catalog = fleet.catalog_conninfo(OPERATOR)
        assert examine(gather_facts(catalog)) == []
        counts = []
        for shard in read_places(catalog).shards:
            with psycopg.connect(shard.conninfo) as conn:
                counts.append(conn.execute("SELECT count(*) FROM fleet.tasks").fetchone()[0])
    finally:
        fleet.discard()
    assert counts == [row["tasks"] for row in summary["rows_per_shard"]]
    # The graph of three tenants, and the three tasks of the actor that was killed.
    assert sum(counts) == 12
    assert summary["graph"] == {"source": "graph.json", "tasks": 3, "edges": 3, "circular": 0}
    assert summary["proof"]["done"] == summary["proof"]["tasks"] == 12
    assert summary["proof"]["edges"] == 9
    assert summary["killed"]["claims_held"] >= 1
    taken_over = summary["killed"]["claims_held"] + summary["recovered"]["taken_over"]
    assert summary["proof"]["taken_over"] == taken_over
    assert summary["recovered"]["taken_over"] == len(summary["recovered"]["claims"]) == 2
    assert summary["recovered"]["progress"] == [{"half": True}]
    answers = {row["asked"]: row["answer"] for row in summary["refused"]}
    assert len(answers) == 6
    assert answers["read the tasks of another tenant of the same bucket"] == "0 of 3 rows"
    for name in ("ForeignKeyViolation", "UndefinedTable", "InsufficientPrivilege", "UnknownTenant"):
        assert any(answer.startswith(name) for answer in answers.values())
    assert all(row["p50_ms"] <= row["p99_ms"] for row in summary["operations"])
    assert processes(place) == []


def test_a_folder_in_use_is_left_alone(place):
    """Somebody's files are neither used nor removed, and no server is started."""
    place.mkdir()
    (place / "servers").write_text("mine")
    with demo(place) as child:
        _, said = child.communicate(timeout=60)
    assert child.returncode == 2
    assert "is not an empty folder" in said
    assert [it.name for it in place.iterdir()] == ["servers"]


@pytest.mark.parametrize(
    "options",
    [{"tenants": 1}, {"tenants": 10_001}, {"buckets": 3}, {"buckets": 65_537}, {"workers": 1}],
)
def test_impossible_numbers(options):
    """Refused by name: fewer leave nothing to show."""
    with pytest.raises(InvalidConfig, match="the demo has"):
        DemoOptions(**options)
