"""Look at the files that lie in a folder, and at the process that reads them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from tenantry_ops.bouncer.check import check_ini
from tenantry_ops.bouncer.files import open_to_others, read_file
from tenantry_ops.bouncer.hba import hba_problems
from tenantry_ops.bouncer.ini import MAIN, Ini, parse_ini
from tenantry_ops.bouncer.render import HBA, INI, PASSFILE, USERLIST
from tenantry_ops.bouncer.rules import Problem
from tenantry_ops.bouncer.sizing import needed_fds
from tenantry_ops.bouncer.userlist import parse_userlist
from tenantry_ops.fleet.process import running_pid
from tenantry_schema.errors import InvalidConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tenantry_ops.bouncer.versions import Version

_OPEN_FILES = re.compile(r"^Max open files +([0-9]+)", re.MULTILINE)


def inspect(directory: Path, version: Version) -> list[Problem]:
    """Return everything that is wrong with the files that lie in a folder.

    :raises InvalidConfig: when there are none
    """
    text, hba, users = (read_file(directory / it) or b"" for it in (INI, HBA, USERLIST))
    if not text:
        raise InvalidConfig(f"there is no {INI} in {directory}")
    ini = parse_ini(text.decode(errors="surrogateescape"))
    found = problems(ini, hba.decode(errors="surrogateescape"), version)
    found += [
        Problem(name, "may be read by others than its owner, and holds secrets", "chmod 600")
        for name in (USERLIST, PASSFILE)
        if open_to_others(directory / name)
    ]
    try:
        known = len(parse_userlist(users.decode(errors="surrogateescape")))
    except InvalidConfig as error:
        return [*found, Problem(USERLIST, str(error), "correct the line")]
    return [*found, *_descriptors(ini, known)]


def problems(ini: Ini, hba: str, version: Version) -> list[Problem]:
    """Return what PgBouncer would misread, in its configuration and in its HBA file."""
    lines = (
        Problem(f"{HBA}, line {number}", problem, "correct the line")
        for number, problem in hba_problems(hba, version)
    )
    return [*check_ini(ini, version), *lines]


def _descriptors(ini: Ini, users: int) -> Iterator[Problem]:
    pidfile = ini.section(MAIN).get("pidfile")
    pid = None if not pidfile else running_pid(Path(pidfile), "pgbouncer")
    if pid is None or ini.fault is not None:
        return
    allowed = _OPEN_FILES.search((read_file(Path(f"/proc/{pid}/limits")) or b"").decode())
    needed = needed_fds(ini, users)
    if allowed is not None and int(allowed[1]) < needed:
        yield Problem(
            f"process {pid}",
            f"may open {allowed[1]} files, and needs {needed} once all clients and servers connect",
            f"set LimitNOFILE={needed} in its unit, and restart it",
        )
