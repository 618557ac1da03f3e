"""The commands as a person calls them, in processes of their own where they do something."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from contextlib import contextmanager

import psycopg
import pytest
from fix_bouncer import connected

from tenantry_ops.bouncer.inspection import inspect
from tenantry_ops.bouncer.render import HBA, INI, USERLIST
from tenantry_schema.naming import APP


def called(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "tenantry_ops", "bouncer", *arguments],
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


def told(*arguments, code=0):
    ended = called(*arguments, "--json")
    assert ended.returncode == code, ended.stderr
    return json.loads(ended.stdout)


@pytest.fixture
def fleet_at(own):
    return ("--dir", str(own.fleet.directory), "--at", str(own.directory))


@pytest.mark.slow
def test_from_rendering_to_status(own, fleet_at):
    """Diff, apply, diff again; status as rows; check finds what hands broke."""
    assert told("diff", *fleet_at) == {
        "version": told("status", "--at", str(own.directory))[0]["version"],
        "changes": [],
        "by_hand": [],
        "running": [],
    }
    change = ("--set", "query_wait_timeout=99")
    found = told("diff", *fleet_at, *change, code=1)
    assert [(it["key"], it["after"]) for it in found["changes"]] == [("query_wait_timeout", "99")]
    ended = called("apply", *fleet_at, *change)
    assert ended.returncode == 0, ended.stderr
    assert "query_wait_timeout" in ended.stdout
    assert "runs as its files say" in ended.stdout
    assert called("diff", *fleet_at, *change).returncode == 0
    assert told("check", *fleet_at) == []
    with (own.directory / INI).open("a") as file:
        file.write("[pgbouncer]\nserver_lifetime = 1h\n")
    (own.directory / USERLIST).chmod(0o644)
    problems = told("check", *fleet_at, code=1)
    assert any("begins again" in it["problem"] for it in problems)
    assert any("seconds" in it["problem"] for it in problems)
    assert any(it["where"] == USERLIST for it in problems)
    assert called("apply", *fleet_at).returncode == 2
    told_of = called("check", *fleet_at, "--set", "version=1.26.0").stderr
    assert "CVE-2026-107350" in told_of


@contextmanager
def restarted(own, program, files):
    """Let PgBouncer run with a bound on its open files, and give what check finds."""
    own.down()
    bounded = own.directory / "bounded"
    bounded.write_text(f'#!/bin/sh\nexec prlimit --nofile={files} {program} "$@"\n')
    bounded.chmod(0o755)
    child = own.up(program=bounded)
    with own.pooler.open() as console:
        version = console.version
    try:
        yield inspect(own.directory, version)
    finally:
        own.down()
        child.wait()


@pytest.mark.slow
def test_a_process_that_may_open_too_few_files_is_found(own, program):
    """With what it needs: given that, there is nothing to find."""
    with restarted(own, program, 64) as found:
        ((where, problem, following),) = found
        assert (where, "may open 64 files" in problem) == (f"process {own.pid}", True)
    needed = int(re.search(r"LimitNOFILE=([0-9]+)", following)[1])
    assert f"needs {needed}" in problem
    with restarted(own, program, needed) as found:
        assert found == []


@pytest.mark.slow
def test_what_apply_changes_is_told_before_it_is_tried(own, fleet_at):
    """One document; also when nothing was brought into force."""
    change = ("--set", "query_wait_timeout=98")
    lying = (own.directory / INI).read_bytes()
    runs = told("status", "--at", str(own.directory))[0]["version"]
    other = "1.22.0" if runs != "1.22.0" else "1.22.1"
    ended = called("apply", *fleet_at, *change, "--set", f"version={other}", "--json")
    failed = json.loads(ended.stdout)
    assert (ended.returncode, "runs at" in ended.stderr) == (2, True), ended.stderr
    assert [it["after"] for it in failed["changes"] if it["key"] == "query_wait_timeout"] == ["98"]
    assert failed["waiting"] is None
    assert (own.directory / INI).read_bytes() == lying
    done = told("apply", *fleet_at, *change)
    assert [(it["key"], it["after"]) for it in done["changes"]] == [("query_wait_timeout", "98")]
    assert done["waiting"] == []


@pytest.mark.slow
def test_a_pause_of_the_command_line(own):
    """Paused when it returns, resumed by another command; nothing to resume is no error."""
    at = ("--at", str(own.directory))
    ended = called("pause", "shard-1", *at, "--lease", "60")
    assert (ended.returncode, "at rest" in ended.stderr) == (0, True), ended.stderr
    assert told("pause", "shard-2", *at, "--lease", "50") == {"paused": ["shard-2"], "lease_s": 50}
    assert [it["resumed"] for it in told("resume", "shard-2", *at)] == ["shard-2"]
    rows = {it["database"]: it["state"] for it in told("status", *at)}
    assert (rows["shard-1"], rows["shard-2"]) == ("paused", "open")
    assert called("status", *at).stdout.count("PgBouncer") == 1
    assert [it["resumed"] for it in told("resume", *at)] == ["shard-1"]
    assert told("resume", "shard-1", "--console", own.pooler.console) == []
    with connected(own, "shard-1") as conn:
        conn.execute("BEGIN")
        conn.execute("SELECT 1")
        ended = called("pause", "shard-1", *at, "--deadline", "0.3")
    assert (ended.returncode, "PauseTimeout" in ended.stderr) == (1, True), ended.stderr


@pytest.mark.slow
def test_files_of_a_pgbouncer_that_is_to_be(own, tmp_path):
    """Written once, secret; printed without secrets; the arithmetic in words; auth as SQL."""
    fleet = ("--dir", str(own.fleet.directory), "--at", str(tmp_path))
    settings = ("--set", "version=1.22.0", "--set", "routers=7", "--set", "extra={verbose=1}")
    ended = called("render", *fleet, *settings)
    assert ended.returncode == 0, ended.stderr
    for name in (INI, USERLIST, HBA):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    text = (tmp_path / INI).read_text()
    assert "max_prepared_statements = 200" in text
    assert "verbose = 1" in text
    again = called("render", *fleet, *settings)
    assert (again.returncode, "bouncer diff" in again.stderr) == (2, True)
    printed = called("render", *fleet, *settings, "--print").stdout
    assert "shard-1-b = " in printed
    secrets = [it.split('"')[3] for it in (tmp_path / USERLIST).read_text().splitlines()]
    assert not [it for it in secrets if it in printed]
    steps = told("render", *fleet, *settings, "--explain")
    assert any("7 routers given" in it["how"] for it in steps)
    script = called("auth", *fleet).stdout
    assert "BEGIN ATOMIC" in script
    assert not [it for it in secrets if it in script]
    scripts = told("auth", *fleet)
    assert [it["shard"] for it in scripts] == ["shard-1", "shard-2"]
    assert all("BEGIN ATOMIC" in it["sql"] for it in scripts)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("status", "--at", "/nowhere"), 2, "tenantry bouncer render"),
        (("check", "--at", "/nowhere", "--set", "version=1.18.0"), 2, "there is no"),
        (("check", "--at", "/nowhere", "--set", "version=1.9"), 2, "is not known"),
        (("check", "--at", "/nowhere", "--set", "no_such=1"), 2, "no_such"),
        (("resume", "--console", "host=127.0.0.1 port=1"), 1, "not everything"),
        (("resume", "--console", "host=x password=secret-word bad"), 2, "not readable"),
        (("pause", "x", "--console", "host=127.0.0.1 port=1"), 1, "does not answer"),
    ],
)
def test_bad_calls_say_what_is_wrong(tenantry, arguments, code, said):
    """One message on standard error, an exit code, no secret."""
    ended = tenantry("bouncer", *arguments)
    assert (ended.returncode, said in ended.stderr) == (code, True), ended.stderr
    assert "Traceback" not in ended.stderr
    assert "secret-word" not in ended.stderr


@pytest.mark.slow
def test_a_console_that_is_none(own):
    """A Postgres that has a database of that name."""
    fleet = own.fleet
    primary = fleet.shards[0].primary
    with psycopg.connect(fleet.superuser_conninfo(primary), autocommit=True) as conn:
        conn.execute("CREATE DATABASE pgbouncer")
    try:
        console = fleet.conninfo(primary, user=APP, dbname="postgres")
        ended = called("status", "--console", console, env={**os.environ})
        assert (ended.returncode, "no PgBouncer" in ended.stderr) == (2, True), ended.stderr
    finally:
        with psycopg.connect(fleet.superuser_conninfo(primary), autocommit=True) as conn:
            conn.execute("DROP DATABASE pgbouncer")


@pytest.mark.slow
def test_a_fleet_with_a_pgbouncer(folder, program, pytestconfig):
    """`fleet up --bouncer` starts a real one, and `fleet down` stops it."""
    place = str(folder / "fleet")

    def fleet(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "tenantry_ops", "fleet", *arguments, "--dir", place],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "TENANTRY_PGBOUNCER": program},
        )

    options = ["--shards", "1", "--replicas", "0", "--json"]
    given_bin = pytestconfig.getoption("--pg-bin")
    try:
        started = fleet(
            "up", "--bouncer", *options, *(("--pg-bin", given_bin) if given_bin else ())
        )
        rows = {it["name"]: it["role"] for it in json.loads(started.stdout)}
        assert rows["bouncer"].startswith("PgBouncer")
        found = {it["name"]: it["pid"] for it in json.loads(fleet("status", "--json").stdout)}
        assert found["bouncer"] is not None
    finally:
        fleet("down", "--remove")
    assert not (folder / "fleet" / "bouncer").exists()
