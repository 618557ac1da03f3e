"""The command line itself: quick, honest about its commands, and silent about secrets."""

from __future__ import annotations

import json
import subprocess
import sys

import psycopg
import pytest
from rich.console import Console

from tenantry_ops.cli import lazy, output, root
from tenantry_ops.cli.init import _shard
from tenantry_schema.errors import InvalidConfig, ShardUnavailable

CONNINFO = "host=nowhere password=hunter2 nonsense"


def imported(*names):
    """Return the modules that an interpreter has after importing some."""
    text = f"import sys, {', '.join(names)}; print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    return set(ended.stdout.split())


def test_nobody_waits_for_what_he_does_not_need():
    """Listing commands needs no driver; reading the map needs neither SQLAlchemy nor Alembic."""
    heavy = {"sqlalchemy", "alembic", "pydantic"}
    assert {"psycopg", *heavy} & imported("tenantry_ops.cli") == set()
    light = ("maps", "tenants", "agents", "migrate", "fleet")
    assert heavy & imported("tenantry", *(f"tenantry_ops.cli.{it}" for it in light)) == set()


@pytest.mark.slow
def test_as_a_module_in_a_process_of_its_own():
    """``python -m tenantry_ops`` is the console script."""
    ended = subprocess.run(
        [sys.executable, "-m", "tenantry_ops", "doctor", "--catalog", CONNINFO],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("InvalidConfig: the catalog's conninfo is not readable")


@pytest.mark.parametrize("name", lazy.COMMANDS)
def test_the_list_says_what_the_command_says(name):
    """The line in the list is the first line of the command's own help."""
    command = lazy.load(name)
    assert command.name == name
    first = (command.help or "").partition("\n")[0]
    assert lazy.COMMANDS[name].summary == first


def test_version_help_and_unknown_commands(tenantry):
    """0 for answers, 2 for a call that cannot be."""
    assert tenantry("--version").stdout.startswith("tenantry ")
    listed = tenantry("--help")
    assert listed.returncode == 0
    assert all(name in listed.stdout for name in lazy.COMMANDS)
    unknown = tenantry("dance")
    assert (unknown.returncode, "No such command 'dance'" in unknown.stderr) == (2, True)


def test_an_error_is_one_message_and_a_traceback_only_when_asked_for(tenantry, monkeypatch):
    """``--debug`` or its variable shows where it came from, and no password either."""
    arguments = ("doctor", "--catalog", CONNINFO)
    assert "Traceback" not in tenantry(*arguments).stderr
    told = [tenantry("--debug", *arguments).stderr]
    monkeypatch.setenv("TENANTRY_DEBUG", "1")
    told.append(tenantry(*arguments).stderr)
    assert all("Traceback" in it and "hunter2" not in it for it in told)


@pytest.mark.parametrize(
    "arguments",
    [
        ("doctor", "--catalog", CONNINFO),
        ("tenants", "list", "--catalog", CONNINFO),
        ("init", "--catalog", CONNINFO, "--shard", "a=host=b"),
        ("init", "--catalog", "host=a", "--shard", f"a={CONNINFO}"),
        ("init", "--catalog", "host=a", "--shard", "a=host=b password=hunter2"),
        ("map", "show", "--catalog", "host=127.0.0.1 port=1 password=hunter2 dbname=x user=u"),
    ],
)
def test_no_secret_is_shown(tenantry, arguments):
    """Whatever is wrong with a conninfo, its password is not in the message."""
    ended = tenantry(*arguments)
    assert ended.returncode in {1, 2}
    assert "hunter2" not in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("host=a", "no user's name"),
        ("a", "NAME=CONNINFO"),
        ("a=port=5432", "name a host"),
        ("a=host=x,y port=1,2,3", "one port or one for each host"),
        ("a=host=x port=many", "port"),
        ("a=host=x port=0", "port"),
        ("a=host=x port=65536", "port"),
    ],
)
def test_shards_that_cannot_be(given, reason):
    """Each is refused by name before anything was asked of a server."""
    if reason == "no user's name":
        assert _shard(1, "host=host=a").name == "host"
        return
    with pytest.raises(InvalidConfig, match=reason):
        _shard(1, given)


def test_a_shard_with_several_hosts():
    """One port for all, or one for each."""
    shard = _shard(3, "s=host=x,y port=6000 dbname=d")
    assert [(it.host, it.port, it.dbname) for it in shard.nodes] == [
        ("x", 6000, "d"),
        ("y", 6000, "d"),
    ]
    assert [it.port for it in _shard(3, "s=host=x,y port=1,2").nodes] == [1, 2]


def test_servers_messages_are_no_markup(capsys, monkeypatch):
    """Brackets in values are printed, long keys are not cut."""
    monkeypatch.setattr(output, "console", Console(width=40))
    key = "f478cc83-c9b9-4d39-93bf-7f29931228b2"
    output.print_rows([{"a": "[bold]x[/]", "b": key, "c": None}], as_json=False)
    printed = capsys.readouterr().out
    assert "[bold]x[/]" in printed
    assert "…" not in printed


def test_json_in_two_parts_is_one_document(capsys):
    """The first is there before the block is; a block that fails leaves the document whole."""
    with output.json_in_two({"changes": ["a"]}) as rest:
        begun = capsys.readouterr().out
        rest["waiting"] = None
    ended = capsys.readouterr().out
    assert begun == '{"changes": ["a"]'
    assert json.loads(begun + ended) == {"changes": ["a"], "waiting": None}
    with pytest.raises(ZeroDivisionError), output.json_in_two({"changes": []}):
        raise ZeroDivisionError
    assert json.loads(capsys.readouterr().out) == {"changes": []}


def test_what_is_ours_is_not_dressed_up():
    """Errors of servers become messages; faults of ours keep their traceback."""
    assert root._message(ShardUnavailable("gone")) == "gone"
    assert "SQLSTATE none" in root._message(psycopg.Error("lost"))
    assert root._message(FileNotFoundError(2, "No such file", "x")) is not None
    assert root._message(KeyError("x")) is None
