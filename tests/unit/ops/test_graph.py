"""The demo's graphs: every source's dirt ends in names and edges between them."""

from __future__ import annotations

import json
from email.message import Message
from importlib import metadata
from typing import TYPE_CHECKING, Any

import pytest

from tenantry_ops.demo import graph as graph_module
from tenantry_ops.demo.debian import parse_index
from tenantry_ops.demo.graph import Graph, installed_graph, json_graph, read_graph
from tenantry_ops.demo.work import submission_deadline
from tenantry_schema.errors import InvalidConfig

if TYPE_CHECKING:
    from pathlib import Path

INDEX = """\
Package: editor
Version: 2
Pre-Depends: libc (>= 2.3)
Depends: spell | speller, missing | mail-agent,
 fonts:any (>= 1) [amd64], editor

Package: libc

Package: speller
Depends: libc

Package: postfix
Provides: mail-agent (= 1), mta

Package: fonts
Description: two
 .
 Depends: not-a-field
"""

PACKAGES = ("editor", "fonts", "libc", "postfix", "speller")


class Dist(metadata.Distribution):
    """A distribution on no disk."""

    def __init__(self, name: str | None, *requires: str) -> None:
        self._message = Message()
        if name is not None:
            self._message["Name"] = name
        self._requires = list(requires)

    def read_text(self, filename: str) -> str | None:
        if filename != "METADATA":
            return None
        lines = [f"{name}: {value}" for name, value in self._message.items()]
        return "\n".join([*lines, *(f"Requires-Dist: {it}" for it in self._requires), ""])

    def locate_file(self, path: Any) -> Any:
        return path


def test_requirements_that_do_not_hold_here_are_no_edges() -> None:
    """Markers, extras, other spellings, unreadable lines, nameless folders, doubles."""
    graph = installed_graph(
        [
            Dist("Left_Pad", "right.pad>=1", "win-only; sys_platform == 'win32'", "absent"),
            Dist("Right-Pad", "LEFT-pad; extra == 'loop'", "left_pad", "this is (no requirement"),
            Dist("win-only", "Win.Only"),
            Dist("left-pad", "win-only"),
            Dist(None),
        ]
    )
    assert graph.names == ("left-pad", "right-pad", "win-only")
    assert graph.edges == (("left-pad", "right-pad"), ("right-pad", "left-pad"))


def test_this_environment_is_a_graph() -> None:
    """The default input exists wherever tenantry does, and holds tenantry itself."""
    graph = read_graph("installed")
    assert ("tenantry", "psycopg") in graph.edges
    assert set(graph.names) >= {name for edge in graph.edges for name in edge}


def test_debian_alternatives_and_virtual_packages() -> None:
    """The first alternative that exists is taken, else the first provider."""
    graph = Graph.of("index", parse_index(INDEX))
    assert graph.names == PACKAGES
    assert graph.edges == (
        ("editor", "fonts"),
        ("editor", "libc"),
        ("editor", "postfix"),
        ("editor", "speller"),
        ("speller", "libc"),
    )


@pytest.fixture
def debian(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of which we know whether it has apt, and which files dpkg keeps."""
    files = (tmp_path / "available", tmp_path / "status")
    monkeypatch.setattr(graph_module, "_INDEX_FILES", files)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def apt_cache(machine: Path, does: str) -> None:
    program = machine / "apt-cache"
    program.write_text(f'#!/bin/sh\n[ "$*" = dumpavail ] || exit 100\n{does}\n')
    program.chmod(0o755)


def test_debians_graph_is_what_apt_knows(debian: Path) -> None:
    """Also with bytes in it that are no text."""
    (debian / "index").write_bytes(INDEX.encode() + b"\nPackage: odd\nMaintainer: J\xf6rg\n")
    (debian / "status").write_text("Package: not-asked\n")
    apt_cache(debian, f"while IFS= read -r line; do printf '%s\\n' \"$line\"; done <{debian}/index")
    graph = read_graph("debian")
    assert (graph.source, graph.names) == (
        "Debian package index (apt-cache)",
        ("editor", "fonts", "libc", "odd", "postfix", "speller"),
    )


@pytest.mark.parametrize("does", [None, "exit 100", "echo 'E: no lists' >&2"])
@pytest.mark.parametrize("file", ["available", "status"])
def test_debians_graph_is_what_dpkg_knows(debian: Path, does: str | None, file: str) -> None:
    """Where apt is not there, fails or knows nothing; dpkg's first file is often empty."""
    if does is not None:
        apt_cache(debian, does)
    (debian / "available").write_text("")
    (debian / file).write_text(INDEX)
    graph = read_graph("debian")
    assert (graph.source, graph.names) == (f"Debian package index ({file})", PACKAGES)


def test_no_index_says_what_else_there_is(debian: Path) -> None:
    """Another distribution's machine."""
    with pytest.raises(InvalidConfig, match=r"no Debian package index: use --graph installed"):
        read_graph("debian")


def test_a_large_graph_is_given_more_time() -> None:
    """Debian's index is one transaction of 330,000 rows, which took 30 s on a busy machine."""
    names = tuple(map(str, range(63_678)))
    large = Graph("index", names, tuple((it, "0") for it in names) * 4)
    assert submission_deadline(large, 30) > 120
    assert submission_deadline(Graph("small", ("a",), ()), 30) < 31


def test_a_file_gives_the_graph_that_it_names(tmp_path: Path) -> None:
    """Cycles are allowed, loops are left out."""
    path = tmp_path / "graph.json"
    path.write_text(json.dumps({"b": ["a", "b"], "a": ["b"], "c": []}))
    assert json_graph(path) == Graph("graph.json", ("a", "b", "c"), (("a", "b"), ("b", "a")))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "cannot be read"),
        ("[]", "expected an object"),
        ("{}", "expected an object"),
        ('{"a": "b"}', "list of names"),
        ('{"a": [1]}', "list of names"),
        ('{"a": ["b"]}', "'b', which is missing"),
        ('{"": []}', "1 to 200 characters"),
        ('{"a\\u0000": []}', "no NUL"),
        ('{"\\ud800": []}', "no NUL"),
        (json.dumps({"x" * 201: []}), "1 to 200 characters"),
        ("[" * 100_000, "cannot be read"),
        ('{"a": [NaN]}', "list of names"),
    ],
)
def test_a_file_that_is_no_graph_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    """Each fault is named, and nothing was started."""
    path = tmp_path / "graph.json"
    path.write_text(text)
    with pytest.raises(InvalidConfig, match=reason):
        json_graph(path)


@pytest.mark.parametrize("which", ["no/such/file.json", "/", "\0", "x" * 5000])
def test_a_file_that_is_none_is_refused(which: str) -> None:
    """Missing files, folders, NUL and endless names are one named error."""
    with pytest.raises(InvalidConfig, match="cannot be read"):
        read_graph(which)
