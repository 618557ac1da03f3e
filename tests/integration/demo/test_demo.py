"""The demo in a process of its own: what it proves, and what it leaves behind."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from fix_processes import children, processes, until
from fix_programs import without_wheel

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


@pytest.fixture
def demo(open_folder, pytestconfig):
    """Call ``tenantry demo`` as a shell does: in a process group, with a folder for what passes."""
    given = pytestconfig.getoption("--pg-bin")
    chosen = {"TENANTRY_PG_BIN": given} if given else {}
    # Whoever tries the demo may have set where the routers of their own fleet go.
    pooler = {"TENANTRY_POOLER": "host=127.0.0.1 port=1"}
    environment = {**os.environ, **chosen, **pooler, "TMPDIR": str(open_folder)}

    @contextmanager
    def called(*arguments):
        command = [sys.executable, "-m", "tenantry_ops", "demo", *map(str, arguments)]
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, **options, env=environment, start_new_session=True) as child:
            try:
                yield child
            finally:
                child.kill()

    return called


@pytest.fixture
def chain(tmp_path):
    """A graph that takes seconds with any number of workers: each task needs the one before."""
    path = tmp_path / "chain.json"
    path.write_text(json.dumps({str(it): [str(it - 1)] if it else [] for it in range(20)}))
    return path


def read_state(place):
    return FleetState.load(place) if (place / "fleet.toml").exists() else None


def sockets_made(_child, place):
    state = read_state(place)
    return state if state is not None and Path(state.sockets).exists() else None


def complete(_child, place):
    state = read_state(place)
    return state if state is not None and state.complete else None


def hands(child):
    """Return the processes of the demo that are there now."""
    lines = children(child.pid).items()
    return [pid for pid, line in lines if b"tenantry_ops.demo.process" in line]


def hired(child, place):
    """Two processes are there, and are not at work yet: the actor before them was alone."""
    return read_state(place) if len(hands(child)) > 1 else None


def at_work(child, place):
    """Tasks of the graph are running."""
    if hired(child, place) is None:
        return None
    fleet = Fleet.load(place)
    query = "SELECT 1 FROM fleet.tasks WHERE state = 'running' AND owner ~ '^demo-' LIMIT 1"
    for shard in fleet.shards:
        with psycopg.connect(fleet.conninfo(shard.primary, user=OPERATOR)) as conn:
            if conn.execute(query).fetchone() is not None:
                return fleet
    return None


@pytest.mark.slow
def test_a_process_that_the_signal_killed_ends_nothing_otherwise(demo, place, chain):
    """Ctrl-C reaches one that is just being made, and still is in the demo's group."""
    with demo("--dir", place, "--graph", chain, "--tenants", 2) as child:
        until(child, lambda: hired(child, place))
        os.kill(child.pid, signal.SIGINT)
        os.kill(hands(child)[-1], signal.SIGKILL)
        _, said = child.communicate(timeout=60)
    assert (child.returncode, said.strip()) == (130, "stopped; nothing is left behind")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("blow", "moment"),
    [
        ((os.killpg, signal.SIGINT), sockets_made),
        ((os.kill, signal.SIGTERM), complete),
        ((os.killpg, signal.SIGINT), hired),
        ((os.killpg, signal.SIGINT), at_work),
    ],
)
def test_a_signal_leaves_nothing_behind(demo, place, chain, blow, moment):
    """Ctrl-C goes to the whole group, at any moment: nobody complains, and nothing is left."""
    send, number = blow
    with demo("--dir", place, "--graph", chain, "--tenants", 2) as child:
        until(child, lambda: moment(child, place))
        send(child.pid, number)
        _, said = child.communicate(timeout=60)
    assert (child.returncode, said.strip()) == (128 + number, "stopped; nothing is left behind")
    assert list(place.parent.iterdir()) == []
    assert processes(place.parent) == {}


@pytest.mark.slow
def test_the_processes_of_a_killed_demo_end(demo, place, chain, open_folder):
    """Its servers and its workers, which no terminal reaches."""
    with demo("--dir", place, "--graph", chain, "--tenants", 2) as child:
        until(child, lambda: at_work(child, place))
        handles = [os.pidfd_open(it) for it in processes(open_folder) if it != child.pid]
        child.kill()
        for handle in handles:
            ended, _, _ = select.select([handle], [], [], 30)
            assert ended
            os.close(handle)
    # Four servers and three workers, one of which the demo may have killed already.
    assert len(handles) >= 6
    assert processes(open_folder) == {}


@pytest.mark.slow
def test_the_demo_as_a_new_user_calls_it(demo, open_folder):
    """Without an option: 20 tenants get this environment's graph, and nothing is left."""
    with demo() as child:
        printed, said = child.communicate(timeout=300)
    assert child.returncode == 0, said
    assert "(Python distributions of this environment; " in " ".join(printed.split())
    assert "once for each of 20 tenants" in " ".join(printed.split())
    for title in (
        "Where each tenant lives",
        "Operations",
        "Rows per shard",
        "What Postgres refused",
        "Killed in the middle of its work",
        "What the killed actor was told",
        "What the history of every task proves",
    ):
        assert f"\n{title}" in printed
    assert printed.count("tenant-") == 20
    assert list(open_folder.iterdir()) == []
    assert processes(open_folder) == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stop", "number"),
    [
        pytest.param(os.killpg, signal.SIGINT, id="ctrl-c"),
        pytest.param(os.kill, signal.SIGTERM, id="a supervisor, whom the installer does not hear"),
    ],
)
def test_a_signal_while_the_wheel_is_fetched(no_wheel, silent_index, open_folder, stop, number):
    """The installer ends as well, and what it had so far is removed."""
    arguments = (no_wheel / "cache", "demo", "--dir", open_folder / "fleet")
    with without_wheel(*arguments) as child:
        asking, _ = silent_index.accept()
        with asking:
            stop(child.pid, number)
            _, said = child.communicate(timeout=60)
            asking.settimeout(30)
            while asking.recv(4096):
                pass
    assert (child.returncode, said.strip()) == (128 + number, "stopped; nothing is left behind")
    assert list(open_folder.iterdir()) == []
    assert list(no_wheel.glob("cache/tenantry/*")) == []


@pytest.mark.slow
def test_a_demo_that_is_kept_can_be_used(demo, place, tmp_path):
    """``--keep``: the servers run on, healthy, with every row; and can be removed."""
    graph = tmp_path / "graph.json"
    graph.write_text(json.dumps(GRAPH))
    arguments = ("--keep", "--graph", graph, "--tenants", 3, "--buckets", 5, "--json")
    with demo("--dir", place, *arguments) as child:
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
    assert processes(place) == {}


@pytest.mark.slow
def test_a_folder_in_use_is_left_alone(demo, place):
    """Somebody's files are neither used nor removed, and no server is started."""
    place.mkdir()
    (place / "servers").write_text("mine")
    with demo("--dir", place) as child:
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
