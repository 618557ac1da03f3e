"""What was changed by hand: three versions of the configuration compared, key by key. Pure.

The *base* is what was written last; *there* is the file as it lies there; *wanted* is what the
catalog asks for now. A key that differs between base and there was changed by hand.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from tenantry_ops.bouncer.connstr import shown_value
from tenantry_ops.bouncer.ini import Ini
from tenantry_schema.errors import InvalidConfig

if TYPE_CHECKING:
    from collections.abc import Iterator


class Edited(StrEnum):
    """What becomes of what was changed by hand."""

    REFUSE = "refuse"
    KEEP = "keep"
    DISCARD = "discard"


class Edit(NamedTuple):
    """One key that was changed by hand; None stands for a key that is not there."""

    section: str
    key: str
    base: str | None
    there: str | None

    def shown(self) -> dict[str, str | None]:
        """Return the edit for people: without secrets."""
        return {
            "section": self.section,
            "key": self.key,
            "written": shown_value(self.section, self.key, self.base),
            "there": shown_value(self.section, self.key, self.there),
        }


def edits(base: Ini, there: Ini) -> Iterator[Edit]:
    """Yield what was changed by hand since the file was written."""
    before, after = base.sections(), there.sections()
    for section in dict.fromkeys((*before, *after)):
        was, now = before.get(section, {}), after.get(section, {})
        for key in dict.fromkeys((*was, *now)):
            if was.get(key) != now.get(key):
                yield Edit(section, key, was.get(key), now.get(key))


def merge(wanted: Ini, edited: list[Edit], policy: Edited) -> Ini:
    """Return the configuration to put in place.

    :raises InvalidConfig: when something was changed by hand and the policy is to refuse that
    """
    mine = wanted.sections()
    differing = [it for it in edited if mine.get(it.section, {}).get(it.key) != it.there]
    if differing and policy is Edited.REFUSE:
        names = ", ".join(f"[{it.section}] {it.key}" for it in differing)
        raise InvalidConfig(
            f"pgbouncer.ini was changed by hand ({names}): nothing was changed. Move it to `extra` "
            "in tenantry.toml, or say what to do with --edited keep or --edited discard"
        )
    if policy is Edited.KEEP:
        for edit in differing:
            section = mine.setdefault(edit.section, {})
            if edit.there is None:
                section.pop(edit.key, None)
            else:
                section[edit.key] = edit.there
    return Ini.of(mine)
