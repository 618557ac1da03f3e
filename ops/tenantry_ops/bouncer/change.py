"""What to put in place: decided from what lies there, what was written last, and what is wanted."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tenantry_ops.bouncer.auth import PASSFILE
from tenantry_ops.bouncer.connstr import parse_pairs, render_pairs
from tenantry_ops.bouncer.diff import Change, changes, lines_changed, users_changed
from tenantry_ops.bouncer.files import read_file
from tenantry_ops.bouncer.ini import DATABASES, Ini, parse_ini, render_ini
from tenantry_ops.bouncer.merge import Edit, Edited, edits, merge
from tenantry_ops.bouncer.pooler import there
from tenantry_ops.bouncer.render import HBA, HEAD, INI, USERLIST, Rendering
from tenantry_ops.bouncer.userlist import parse_userlist, render_userlist
from tenantry_schema.errors import InvalidConfig

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tenantry_ops.bouncer.versions import Version

#: What was written last, to tell what was changed by hand since.
WRITTEN = ".tenantry-written.json"


@dataclass(frozen=True, slots=True)
class Lying:
    """What lies in a folder: nothing of it for a PgBouncer that is to be.

    :ivar written: file name -> what was written last
    """

    ini: Ini = field(default_factory=Ini)
    hba: str | None = None
    userlist: dict[str, str] = field(default_factory=dict)
    written: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be put in place.

    :ivar files: file name -> text, in the order in which they are put in place
    :ivar edited: what was changed by hand since it was written
    """

    version: Version
    ini: Ini
    files: dict[str, bytes]
    changes: list[Change]
    edited: list[Edit]


def decide(
    lying: Lying, rendering: Rendering, policy: Edited, passfile: bytes | None = None
) -> Plan:
    """Decide what to put in place: pure.

    :raises InvalidConfig: when something was changed by hand, and the policy is to refuse that
    """
    texts = rendering.texts()
    by_hand = list(edits(parse_ini(lying.written.get(INI, "")), lying.ini))
    ini = merge(rendering.ini, by_hand, policy)
    hba = _hba(lying, rendering.hba, policy)
    users = {it: secret for it, secret in lying.userlist.items() if it not in rendering.owned}
    userlist = {**users, **rendering.userlist}
    found = [
        *changes(lying.ini, ini, rendering.version),
        *lines_changed(HBA, lying.hba, hba),
        *users_changed(USERLIST, lying.userlist, userlist),
    ]
    files = {
        WRITTEN: json.dumps({INI: texts[INI], HBA: texts[HBA]}).encode(),
        HBA: hba.encode(),
        USERLIST: render_userlist(userlist).encode(),
        **({} if passfile is None else {PASSFILE: passfile}),
        INI: render_ini(ini, head=HEAD).encode(),
    }
    return Plan(rendering.version, ini, files, found, by_hand)


def _hba(lying: Lying, wanted: str, policy: Edited) -> str:
    if lying.hba in {None, wanted, lying.written.get(HBA)}:
        return wanted
    if policy is Edited.REFUSE:
        raise InvalidConfig(
            f"{HBA} was changed by hand: nothing was changed. Put networks into `clients` and "
            "roles into `users` of tenantry.toml, or say --edited keep or --edited discard"
        )
    return str(lying.hba) if policy is Edited.KEEP else wanted


def read_lying(directory: Path) -> Lying:
    """Read what lies in a folder.

    :raises InvalidConfig: when PgBouncer could not read it
    """
    ini, hba, userlist = (read_file(directory / it) for it in (INI, HBA, USERLIST))
    return Lying(
        Ini() if ini is None else there(directory),
        None if hba is None else hba.decode(),
        {} if userlist is None else parse_userlist(userlist.decode()),
        read_written(directory),
    )


def read_written(directory: Path) -> dict[str, str]:
    """Return file name -> what was written last, or nothing."""
    text = read_file(directory / WRITTEN)
    try:
        return {} if text is None else dict(json.loads(text))
    except ValueError as error:
        raise InvalidConfig(f"{directory / WRITTEN} is damaged: remove it") from error


def pointed(
    directory: Path, targets: Mapping[str, tuple[str, int]]
) -> tuple[dict[str, bytes], Ini]:
    """Return the files in which entries lead to other servers, and the configuration among them.

    :param targets: entry -> host and port
    :raises InvalidConfig: when there is no such entry
    """
    ini = _pointed(there(directory), targets)
    written = read_written(directory)
    if INI in written:
        # Otherwise the new target would count as changed by hand.
        base = _pointed(parse_ini(written[INI]), targets)
        written[INI] = render_ini(base, head=HEAD)
    files = {WRITTEN: json.dumps(written).encode(), INI: render_ini(ini, head=HEAD).encode()}
    return files, ini


def _pointed(ini: Ini, targets: Mapping[str, tuple[str, int]]) -> Ini:
    sections = ini.sections()
    for name, (host, port) in targets.items():
        if name not in sections[DATABASES]:
            raise InvalidConfig(
                f"pgbouncer.ini has no entry {name!r:.80} that could lead elsewhere"
            )
        pairs = parse_pairs(sections[DATABASES][name])
        sections[DATABASES][name] = render_pairs({**pairs, "host": host, "port": port})
    return Ini.of(sections)
