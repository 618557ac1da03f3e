"""Where a fleet lies for which nobody named a folder."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from tenantry_ops.fleet.identity import server_identity

if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULT_DIRECTORY = Path(".tenantry")

#: Where everybody may pass, and nobody but root can lay a folder in a fleet's way.
_STATE = Path("/var/lib/tenantry")


def default_folder(progress: Callable[[str], None] = lambda _: None) -> Path:
    """Return ``.tenantry`` of the working folder, where the servers' user can reach it.

    Root's servers run as another user, whom a folder such as ``/root`` keeps out. Then
    ``.tenantry`` becomes a link to a folder of ``/var/lib/tenantry`` that is named after the
    working folder: every command that is called there finds it.

    :param progress: told where the fleet lies when that is elsewhere
    :raises FleetError: when root has no user to run servers as
    """
    identity = server_identity()
    here = DEFAULT_DIRECTORY.absolute()
    if os.path.lexists(here) or identity.reaches(here.parent):
        return here
    home = _STATE / sha256(os.fsencode(here)).hexdigest()[:16]
    if not _STATE.exists():
        _STATE.mkdir()
        # Whatever root's umask is: the servers' user passes through it.
        _STATE.chmod(0o755)
    here.symlink_to(home)
    progress(
        f"the servers run as user {identity.name!r}, who cannot enter {here.parent}: "
        f"the fleet lies in {home}, where {here} leads"
    )
    return here
