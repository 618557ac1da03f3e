"""What to put in place: from what lies there, what was written last, and what is wanted. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tenantry_ops.bouncer.connstr import parse_pairs, render_pairs
from tenantry_ops.bouncer.diff import Change, changes, lines_changed, users_changed
from tenantry_ops.bouncer.ini import DATABASES, Ini, parse_ini, render_ini
from tenantry_ops.bouncer.merge import Edit, Edited, edits, merge
from tenantry_ops.bouncer.render import HBA, HEAD, INI, PASSFILE, USERLIST, WRITTEN, Rendering
from tenantry_ops.bouncer.userlist import render_userlist
from tenantry_schema.errors import InvalidConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tenantry_ops.bouncer.versions import Version


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
    """Decide what to put in place.

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


def point(ini: Ini, targets: Mapping[str, tuple[str, int]]) -> Ini:
    """Let entries lead to other servers.

    :param targets: entry -> host and port
    :raises InvalidConfig: when there is no such entry
    """
    sections = ini.sections()
    for name, (host, port) in targets.items():
        if name not in sections[DATABASES]:
            raise InvalidConfig(
                f"pgbouncer.ini has no entry {name!r:.80} that could lead elsewhere"
            )
        pairs = parse_pairs(sections[DATABASES][name])
        sections[DATABASES][name] = render_pairs({**pairs, "host": host, "port": port})
    return Ini.of(sections)


def pointed(
    ini: Ini, written: Mapping[str, str], targets: Mapping[str, tuple[str, int]]
) -> tuple[dict[str, bytes], Ini]:
    """Return the files in which entries lead to other servers, and the configuration among them.

    :param written: file name -> what was written last
    """
    now = point(ini, targets)
    base = dict(written)
    if INI in base:
        # Otherwise the new target would count as changed by hand.
        base[INI] = render_ini(point(parse_ini(base[INI]), targets), head=HEAD)
    files = {WRITTEN: json.dumps(base).encode(), INI: render_ini(now, head=HEAD).encode()}
    return files, now
