"""Read what lies in the folder of a PgBouncer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tenantry_ops.bouncer.change import Lying
from tenantry_ops.bouncer.files import read_file
from tenantry_ops.bouncer.ini import Ini, parse_ini
from tenantry_ops.bouncer.render import HBA, INI, USERLIST, WRITTEN
from tenantry_ops.bouncer.userlist import parse_userlist
from tenantry_schema.errors import InvalidConfig

if TYPE_CHECKING:
    from pathlib import Path


def read_ini(directory: Path) -> Ini:
    """Read the configuration.

    :raises InvalidConfig: when there is none, or PgBouncer could not read it
    """
    text = read_file(directory / INI)
    if text is None:
        raise InvalidConfig(
            f"there is no {INI} in {directory}: write one with `tenantry bouncer render`"
        )
    found = parse_ini(text.decode(errors="surrogateescape"))
    if found.fault is not None:
        raise InvalidConfig(f"{directory / INI}, line {found.fault.line}: {found.fault.problem}")
    return found


def read_lying(directory: Path) -> Lying:
    """Read everything; nothing of it need be there.

    :raises InvalidConfig: when PgBouncer could not read it
    """
    hba = read_file(directory / HBA)
    return Lying(
        read_ini(directory) if (directory / INI).exists() else Ini(),
        None if hba is None else hba.decode(),
        read_userlist(directory),
        read_written(directory),
    )


def read_userlist(directory: Path) -> dict[str, str]:
    """Read user -> secret."""
    text = read_file(directory / USERLIST)
    return {} if text is None else parse_userlist(text.decode())


def read_written(directory: Path) -> dict[str, str]:
    """Read file name -> what was written last."""
    text = read_file(directory / WRITTEN)
    try:
        return {} if text is None else dict(json.loads(text))
    except ValueError as error:
        raise InvalidConfig(f"{directory / WRITTEN} is damaged: remove it") from error
