"""``tenantry load`` in a process of its own: what it proves, and what it leaves behind."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from contextlib import contextmanager

import psycopg
import pytest
from fix_processes import children, processes, until

from tenantry_loadtest.journal import read_history
from tenantry_loadtest.workload import Kind
from tenantry_ops.cluster import read_places
from tenantry_schema.naming import OPERATOR

ENOUGH = 200  # lines of a record: users are at work


@contextmanager
def load(*arguments, **env):
    command = [sys.executable, "-m", "tenantry_ops", "load", *map(str, arguments)]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdout=pipe, stderr=pipe, text=True, env={**os.environ, **env}
    ) as child:
        try:
            yield child
        finally:
            child.kill()


def at_work(record):
    return record.exists() and record.read_bytes().count(b"\n") > ENOUGH


def drivers(child):
    """Return handles of the processes that a command has started and that drive load."""
    lines = children(child.pid).items()
    return {pid: os.pidfd_open(pid) for pid, line in lines if b"tenantry_loadtest" in line}


def tenants_of_runs(catalog):
    with psycopg.connect(catalog) as conn:
        query = "SELECT count(*) FROM tenantry.tenants WHERE name LIKE 'load-%'"
        (in_catalog,) = conn.execute(query).fetchone()
    in_buckets = 0
    for shard in read_places(catalog).shards:
        with psycopg.connect(shard.conninfo) as conn:
            query = "SELECT count(*) FROM fleet.tenants WHERE name LIKE 'load-%'"
            in_buckets += conn.execute(query).fetchone()[0]
    return in_catalog, in_buckets


def check_clean(summary):
    """Every kind of call came, none failed, and every write is there once."""
    assert [row["operation"] for row in summary["operations"]] == list(Kind)
    for row in summary["operations"]:
        assert row["count"] > 0
        assert row["failures"] == 0
        assert 0 < row["p50_ms"] <= row["p99_ms"]
        assert row["per_second"] > 0
    assert summary["errors"] == []
    assert summary["interleaved_s"] < 0.8
    assert summary["seed"] == 7
    written = sum(
        row["count"]
        for row in summary["operations"]
        if row["operation"] in {Kind.ENQUEUE, Kind.LOG, Kind.REGISTER}
    )
    verdict = summary["verdict"]
    assert verdict == {
        "clean": True,
        "acknowledged": written,
        "failed": 0,
        "committed": 0,
        "absent": 0,
        "findings": [],
    }


@pytest.mark.slow
def test_a_smoke_run_on_a_fleet_of_its_own(open_folder):
    """Five seconds: every kind of call, no failure, every write once, nothing left behind."""
    with load("smoke", "--seconds", 5, "--seed", 7, "--json", TMPDIR=str(open_folder)) as child:
        printed, said = child.communicate(timeout=120)
    assert child.returncode == 0, said
    summary = json.loads(printed)
    check_clean(summary)
    assert summary["record"] is None
    assert list(open_folder.iterdir()) == []
    assert processes(open_folder) == {}


@pytest.mark.slow
def test_a_smoke_run_as_a_guest(laid_out, tmp_path):
    """The same on a fleet that was there before, also through a pooler; its tenants are gone."""
    record = tmp_path / "record.jsonl"
    before = tenants_of_runs(laid_out.catalog_conninfo(OPERATOR))
    run = ("--seconds", 2, "--tenants", 4, "--seed", 7, "--json", "--record", record)
    with load("smoke", "--dir", laid_out.directory, *run) as child:
        printed, said = child.communicate(timeout=120)
    assert child.returncode == 0, said
    summary = json.loads(printed)
    check_clean(summary)
    assert summary["record"] == str(record)
    assert tenants_of_runs(laid_out.catalog_conninfo(OPERATOR)) == before


@pytest.mark.slow
def test_ctrl_c_leaves_nothing_behind(open_folder):
    """While users work: no process, no folder, the shell's code."""

    def records():
        return [it for it in open_folder.glob("tenantry-*/record.jsonl") if at_work(it)]

    with load("smoke", "--tenants", 3, TMPDIR=str(open_folder)) as child:
        until(child, records)
        ((_, handle),) = drivers(child).items()
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=60)
    assert child.returncode == 128 + signal.SIGINT
    assert "nothing is left behind" in said
    assert ended(handle)
    assert list(open_folder.iterdir()) == []
    assert processes(open_folder) == {}


@pytest.mark.slow
def test_ctrl_c_as_a_guest_leaves_nothing_behind(laid_out, tmp_path):
    """A fleet that was there before is there afterwards, without the run's tenants."""
    record = tmp_path / "record.jsonl"
    before = tenants_of_runs(laid_out.catalog_conninfo(OPERATOR))
    with load("smoke", "--dir", laid_out.directory, "--record", record, "--tenants", 3) as child:
        until(child, lambda: at_work(record))
        child.send_signal(signal.SIGTERM)
        _, said = child.communicate(timeout=60)
    assert child.returncode == 128 + signal.SIGTERM, said
    assert tenants_of_runs(laid_out.catalog_conninfo(OPERATOR)) == before
    assert len(read_history(record).writes) > 0


@pytest.mark.slow
@pytest.mark.parametrize("whom", ["command", "driver"])
def test_a_run_that_was_killed_is_judged(laid_out, tmp_path, whom):
    """The record is what it wrote until then; the judge finds all of it, and may take it away."""
    record = tmp_path / "record.jsonl"
    catalog = laid_out.catalog_conninfo(OPERATOR)
    before = tenants_of_runs(catalog)
    with load("smoke", "--catalog", catalog, "--record", record, "--tenants", 3) as child:
        until(child, lambda: at_work(record))
        ((pid, handle),) = drivers(child).items()
        os.kill(child.pid if whom == "command" else pid, signal.SIGKILL)
        _, said = child.communicate(timeout=60)
    assert ended(handle)
    if whom == "driver":
        assert child.returncode == 1
        assert f"tenantry load judge {record}" in said
    assert tenants_of_runs(catalog) != before
    with load("judge", record, "--catalog", catalog, "--remove", "--json") as child:
        printed, said = child.communicate(timeout=60)
    assert child.returncode == 0, said
    verdict = json.loads(printed)
    assert verdict["clean"]
    assert verdict["acknowledged"] > ENOUGH / 4
    assert tenants_of_runs(catalog) == before


def ended(handle):
    """Say whether a process ends, within the time that its users' calls may take."""
    found, _, _ = select.select([handle], [], [], 30)
    os.close(handle)
    return bool(found)
