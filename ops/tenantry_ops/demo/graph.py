"""Real dependency graphs as the demo's input: what is a task, and what it needs.

Sources differ in their dirt: requirements of other platforms, alternatives, virtual packages, names
written in several ways. All of it ends here; what comes out is a set of names and the edges
between them.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Self

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from tenantry_ops.demo.debian import parse_index
from tenantry_schema.errors import InvalidConfig

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_LONGEST_NAME = 200
_INDEX_FILES = (Path("/var/lib/dpkg/available"), Path("/var/lib/dpkg/status"))


@dataclass(frozen=True, slots=True)
class Graph:
    """Tasks and what they need.

    :ivar source: where it was read, for people
    :ivar names: the tasks, sorted
    :ivar edges: (task, what it needs), sorted, both among the names, without loops or doubles
    """

    source: str
    names: tuple[str, ...]
    edges: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, source: str, needs: Mapping[str, Iterable[str]]) -> Self:
        """Make a graph of what each name needs; a need that is no name itself is left out."""
        edges = {
            (name, need)
            for name, its in needs.items()
            for need in its
            if need in needs and need != name
        }
        return cls(source, tuple(sorted(needs)), tuple(sorted(edges)))


def read_graph(which: str) -> Graph:
    """Read the graph that ``--graph`` names: ``installed``, ``debian`` or a JSON file.

    :raises InvalidConfig: when there is none, or it is none
    """
    if which == "installed":
        return installed_graph(metadata.distributions())
    if which == "debian":
        return debian_graph()
    return json_graph(Path(which))


def installed_graph(distributions: Iterable[metadata.Distribution]) -> Graph:
    """Read the Python distributions of this environment: what each requires here and now."""
    needs: dict[str, list[str]] = {}
    for found in distributions:
        # A folder that pip left behind has neither metadata nor a name.
        if "Name" in found.metadata:
            name = found.metadata["Name"]
            # The first one on the path is the one that is imported.
            needs.setdefault(canonicalize_name(name), _requirements(found.requires or ()))
    return Graph.of("Python distributions of this environment", needs)


def debian_graph() -> Graph:
    """Read this machine's Debian package index.

    :raises InvalidConfig: when the machine has none
    """
    program = shutil.which("apt-cache")
    if program is not None:
        text = subprocess.run(  # noqa: S603  found on PATH, takes nothing of the caller's
            [program, "dumpavail"], capture_output=True, text=True, check=False, errors="replace"
        ).stdout
        needs = parse_index(text)
        if needs:
            return Graph.of("Debian package index (apt-cache)", needs)
    for path in _INDEX_FILES:
        if path.is_file():
            needs = parse_index(path.read_text(encoding="utf-8", errors="replace"))
            if needs:
                return Graph.of(f"Debian package index ({path.name})", needs)
    raise InvalidConfig(
        "this machine has no Debian package index: use --graph installed, or a JSON file"
    )


def json_graph(path: Path) -> Graph:
    """Read ``{"name": ["what it needs", …], …}`` from a file.

    :raises InvalidConfig: naming the file and what is wrong in it
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidConfig(f"--graph {str(path)[:200]!r} cannot be read: {error}") from error
    if not isinstance(found, dict) or not found:
        raise InvalidConfig(f'{path}: expected an object such as {{"a": ["b"], "b": []}}')
    for name, needs in found.items():
        _check_name(path, name)
        if not isinstance(needs, list) or not all(isinstance(need, str) for need in needs):
            raise InvalidConfig(f"{path}: {name[:40]!r} must need a list of names")
        for need in needs:
            if need not in found:
                raise InvalidConfig(f"{path}: {name[:40]!r} needs {need[:40]!r}, which is missing")
    return Graph.of(path.name, found)


def _requirements(lines: Iterable[str]) -> list[str]:
    names: list[str] = []
    for line in lines:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            # Old distributions carry lines that no tool reads; pip leaves them out as well.
            continue
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            names.append(canonicalize_name(requirement.name))
    return names


def _check_name(path: Path, name: str) -> None:
    if not 1 <= len(name) <= _LONGEST_NAME or "\0" in name or not _is_text(name):
        raise InvalidConfig(
            f"{path}: a name has 1 to {_LONGEST_NAME} characters and no NUL, not {ascii(name)[:60]}"
        )


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
