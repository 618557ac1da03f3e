"""Which user the servers run as: Postgres refuses to run as root.

As root, ``postgres`` or else ``nobody`` is taken, without asking for anything and without changing
the rights of a folder that is not the fleet's own.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tenantry_schema.errors import FleetError

if TYPE_CHECKING:
    from pathlib import Path

    from tenantry_ops.fleet.programs import Programs


@dataclass(frozen=True, slots=True)
class Identity:
    """The user that servers run as; None is the caller's own."""

    uid: int | None = None
    gid: int | None = None
    name: str = ""

    def popen(self) -> dict[str, Any]:
        """Return the arguments of ``subprocess`` that change to the user."""
        if self.uid is None:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def own(self, path: Path) -> None:
        """Give a path to the user."""
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)

    def reaches(self, path: Path) -> bool:
        """Say whether the user can look into a folder, or run a program."""
        if self.uid is None:
            return os.access(path, os.X_OK)
        asked = subprocess.run(  # noqa: S603
            ["/usr/bin/test", "-x", str(path)],
            check=False,
            cwd="/",
            # Ended by a terminal's Ctrl-C it would seem to have said no.
            start_new_session=True,
            **self.popen(),
        )
        return asked.returncode == 0


def server_identity() -> Identity:
    """Return the user for servers: the caller's own, or an unprivileged one when that is root.

    :raises FleetError: when root has neither ``postgres`` nor ``nobody`` to run as
    """
    if os.geteuid() != 0:
        return Identity()
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Identity(entry.pw_uid, entry.pw_gid, name)
    raise FleetError(
        "Postgres refuses to run as root, and this system has neither a user 'postgres' nor "
        "'nobody': create one, or run as an ordinary user"
    )


def reachable_programs(programs: Programs, identity: Identity, stage: Path) -> Programs:
    """Return the programs where the user can run them: copied when they lie out of its reach."""
    if identity.reaches(programs.folder / "postgres"):
        return programs
    prefix = programs.folder.parent
    if not stage.exists():
        draft = stage.with_name(f"{stage.name}.new")
        shutil.rmtree(draft, ignore_errors=True)
        shutil.copytree(prefix, draft / prefix.parent.name / prefix.name, symlinks=True)
        # A wheel's programs look for libraries beside its package, as seen from themselves.
        libraries = prefix.parent.with_name(f"{prefix.parent.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, draft / libraries.name, symlinks=True)
        draft.rename(stage)
    folder = stage / prefix.parent.name / prefix.name / programs.folder.name
    return replace(programs, folder=folder, source=f"{programs.source}, copied")
