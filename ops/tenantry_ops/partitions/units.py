"""systemd units for the rollover: text only, for an operator to look at and install."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from tenantry_schema.errors import InvalidConfig

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_SCHEDULE = re.compile(r"[A-Za-z0-9*/,:.~ -]{1,80}\Z")
_FOLDER = re.compile(r"/[A-Za-z0-9_./@+-]{0,250}\Z")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}\Z")

_SERVICE = """\
[Unit]
Description=Roll over tenantry's time partitions
Documentation=man:systemd.service(5)
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
User={user}
# The conninfo and the place of the passwords, never a password: TENANTRY_CATALOG=…, PGPASSFILE=…
EnvironmentFile=-/etc/tenantry/partitions.env
ExecStart={command}
# Exit code 3 says that a table has too few partitions ahead: the unit fails, and is seen.
TimeoutStartSec=1h
KillSignal=SIGTERM
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=yes
{written}"""
_TIMER = """\
[Unit]
Description=Roll over tenantry's time partitions, regularly

[Timer]
OnCalendar={schedule}
# After a machine was off, at once; never on every machine in the same second.
Persistent=true
RandomizedDelaySec=5min

[Install]
WantedBy=timers.target
"""

NAME = "tenantry-partitions"


def render_units(
    program: str,
    arguments: Sequence[str],
    *,
    user: str,
    schedule: str,
    written: Sequence[Path] = (),
) -> dict[str, str]:
    """Return the files of a service and its timer by their names.

    :param program: the path of the command ``tenantry``
    :param arguments: what follows ``partitions rollover``
    :param written: the folders that it writes to: every other one is read-only for it
    :raises InvalidConfig: for a user, a schedule or a folder that systemd would not take, or a
        password
    """
    if not _USER.match(user):
        raise InvalidConfig(f"{user!r:.60} is no user's name")
    if not _SCHEDULE.match(schedule):
        raise InvalidConfig(f"{schedule!r:.90} is no calendar event, such as 'hourly' or '*:0/30'")
    for folder in written:
        if not _FOLDER.match(str(folder)):
            raise InvalidConfig(f"{str(folder)!r:.90} is no absolute path for a unit file")
    words = [program, "partitions", "rollover", *arguments]
    if any("password" in word or "\n" in word for word in words):
        raise InvalidConfig("no password in a unit file: use PGPASSFILE or PGSERVICEFILE")
    # systemd would expand these two.
    command = shlex.join(words).replace("%", "%%").replace("$", "$$")
    return {
        f"{NAME}.service": _SERVICE.format(
            user=user,
            command=command,
            written="".join(f"ReadWritePaths={it}\n" for it in written),
        ),
        f"{NAME}.timer": _TIMER.format(schedule=schedule),
    }
