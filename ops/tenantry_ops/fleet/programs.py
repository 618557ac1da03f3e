"""Find the server programs, and say where they came from.

The order is fixed so that a checkout behaves the same everywhere: what the user names, the wheel in
this environment, ``PATH``, the system's versioned folders, the wheel in the user's cache. The wheel
is used for its programs only; its own code would create users and open folders.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tenantry_ops.fleet.wheel import EXTRA, PLACES, cached_wheel
from tenantry_schema.errors import FleetError

if TYPE_CHECKING:
    from collections.abc import Iterator

NEEDED = ("initdb", "postgres", "pg_basebackup", "pg_rewind")
OLDEST = 15

_FOLDERS = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin")


@dataclass(frozen=True, slots=True)
class Programs:
    """A folder of server programs of one version.

    :ivar source: in words, where they were found
    """

    folder: Path
    version: str
    source: str

    @property
    def major(self) -> int:
        """The major version of Postgres."""
        return int(re.split(r"\D", self.version, maxsplit=1)[0])

    def path(self, name: str) -> str:
        """Return the path of a program."""
        return str(self.folder / name)


def find_programs(given: str | os.PathLike[str] | None = None) -> Programs:
    """Find initdb, postgres, pg_basebackup and pg_rewind of one Postgres, 15 or newer.

    :param given: a folder that must be used, or ``embedded`` for the wheel and nothing of the
        system; default ``TENANTRY_PG_BIN``, then what is found
    :raises FleetError: naming every place that was looked at
    """
    found, looked = look_for_programs(given)
    if found is None:
        raise none_found(looked)
    return found


def is_named(given: str | os.PathLike[str] | None) -> bool:
    """Say whether a folder was named, which nothing else may replace."""
    return _named(given) not in {"", EXTRA}


def look_for_programs(
    given: str | os.PathLike[str] | None,
) -> tuple[Programs | None, list[str]]:
    """Return the programs, if there are any, and what was wrong with each place before them."""
    looked: list[str] = []
    for source, folder in _places(_named(given)):
        missing = [name for name in NEEDED if not os.access(folder / name, os.X_OK)]
        if missing:
            looked.append(f"{source} ({folder}: no {', '.join(missing)})")
            continue
        programs = Programs(folder, _version(folder), source)
        if programs.major >= OLDEST:
            return programs, looked
        looked.append(f"{source} ({folder}: Postgres {programs.version} is older than {OLDEST})")
    return None, looked


def none_found(looked: list[str], why: str = "") -> FleetError:
    """Return the error that says where was looked, and what to do.

    :param why: why the wheel was not fetched either
    """
    unfetched = f"The wheel was not fetched: {why}. " if why else ""
    return FleetError(
        "no Postgres server programs were found. Looked at: "
        f"{'; '.join(looked) or 'nothing'}. {unfetched}Set TENANTRY_PG_BIN, install "
        "the wheel with `pip install 'tenantry[embedded]'`, or install Postgres 15 or newer"
    )


def _named(given: str | os.PathLike[str] | None) -> str:
    return os.fspath(given or os.environ.get("TENANTRY_PG_BIN", ""))


def _places(named: str) -> Iterator[tuple[str, Path]]:
    if named not in {"", EXTRA}:
        yield "the folder that was named", Path(named)
        return
    for package, inside in PLACES.items():
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.submodule_search_locations:
            yield f"the {package} wheel", Path(spec.submodule_search_locations[0]) / inside
    if named != EXTRA:
        yield from _of_the_system()
    cached = cached_wheel()
    if cached is not None:
        yield "the wheel in the user's cache", cached.programs


def _of_the_system() -> Iterator[tuple[str, Path]]:
    on_path = shutil.which("postgres")
    if on_path is not None:
        # A wrapper or a link stands elsewhere than the programs beside the server.
        yield "PATH", Path(os.path.realpath(on_path)).parent
    for pattern in _FOLDERS:
        found = Path("/").glob(pattern.lstrip("/"))
        for folder in sorted(found, key=_newest, reverse=True):
            yield "the system's versioned folders", folder


def _newest(folder: Path) -> int:
    numbers = re.findall(r"\d+", str(folder))
    return int(numbers[-1]) if numbers else 0


def _version(folder: Path) -> str:
    told = subprocess.run(  # noqa: S603  a program of the folder that was chosen
        [str(folder / "postgres"), "--version"],
        capture_output=True,
        text=True,
        check=False,
        # A terminal's Ctrl-C is for us, who answer for it in order.
        start_new_session=True,
    )
    found = re.search(r"\b(\d+)(?:\.\d+|beta\d+|rc\d+|devel)", told.stdout)
    if found is None:
        raise FleetError(f"{folder}/postgres --version printed {told.stdout!r} {told.stderr!r}")
    return found[0]
