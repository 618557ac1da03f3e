"""What a change of the configuration does, key by key, before it is made. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from tenantry_ops.bouncer.connstr import HIDDEN, parse_pairs, shown_value
from tenantry_ops.bouncer.ini import DATABASES, MAIN, Ini
from tenantry_ops.bouncer.table import keys_of
from tenantry_ops.bouncer.versions import TAKES_FORCED_USER, Version

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tenantry_ops.bouncer.readback import Row

_TARGET = ("host", "port", "dbname")


class Effect(StrEnum):
    """How a change comes into force."""

    RELOAD = "at once, by RELOAD"
    RESTART = "at the next restart"
    PAUSE = "in a PAUSE: the entry leads elsewhere"
    DISCONNECT = "its clients are disconnected"
    CRASH = "would crash PgBouncer"


class Change(NamedTuple):
    """One key that changes; None stands for a key that is not there."""

    section: str
    key: str
    before: str | None
    after: str | None
    effect: Effect

    def shown(self) -> dict[str, str | None]:
        """Return the change for people: without secrets."""
        return {
            "section": self.section,
            "key": self.key,
            "before": shown_value(self.section, self.key, self.before),
            "after": shown_value(self.section, self.key, self.after),
            "in force": str(self.effect),
        }


def changes(before: Ini, after: Ini, version: Version) -> list[Change]:
    """Return what changes from one configuration to another, and how it comes into force."""
    found = []
    old, new = before.sections(), after.sections()
    for section in dict.fromkeys((*old, *new)):
        was, now = old.get(section, {}), new.get(section, {})
        for key in dict.fromkeys((*was, *now)):
            pair = was.get(key), now.get(key)
            if pair[0] != pair[1]:
                found.append(Change(section, key, *pair, _effect(section, key, *pair, version)))
    return found


def entry_effects(running: Sequence[Row], after: Ini, version: Version) -> dict[str, Effect]:
    """Return what a configuration does to the entries that run: name -> effect.

    Asked of PgBouncer, not of its file, which may never have been read.

    :param running: rows of ``SHOW DATABASES``
    """
    given = after.section(DATABASES)
    effects = {}
    for row in running:
        name = row["name"]
        if name == MAIN:
            continue
        if name not in given:
            effects[name] = Effect.DISCONNECT
            continue
        now = {"port": "5432", "dbname": name, **parse_pairs(given[name])}
        effects[name] = _pairs_effect(_pairs_of(row), now, version)
    return effects


def _effect(
    section: str, key: str, before: str | None, after: str | None, version: Version
) -> Effect:
    if section == MAIN:
        return _main_effect(key, after, version)
    if section == DATABASES and before is not None:
        return Effect.DISCONNECT if after is None else _entry_effect(before, after, version)
    return Effect.RELOAD


def _main_effect(key: str, after: str | None, version: Version) -> Effect:
    known = keys_of(version).get(key)
    if known is None or (known.reload and (after is not None or known.default is not None)):
        return Effect.RELOAD
    return Effect.RESTART


def _entry_effect(before: str, after: str, version: Version) -> Effect:
    try:
        return _pairs_effect(parse_pairs(before), parse_pairs(after), version)
    except ValueError:
        return Effect.RELOAD


def _pairs_effect(was: Mapping[str, str], now: Mapping[str, str], version: Version) -> Effect:
    if "user" in now and "user" not in was and version < TAKES_FORCED_USER:
        return Effect.CRASH
    if "user" in was and "user" not in now:
        # PgBouncer keeps the forced user that it has, and says so in its log only.
        return Effect.RESTART
    if any(was.get(it) != now.get(it) for it in _TARGET):
        return Effect.PAUSE
    return Effect.RELOAD


def _pairs_of(row: Row) -> dict[str, str]:
    columns = {"host": "host", "port": "port", "dbname": "database", "user": "force_user"}
    return {key: str(row[it]) for key, it in columns.items() if row[it] is not None}


def lines_changed(file: str, before: str | None, after: str) -> Iterator[Change]:
    """Yield the lines of a text file that go and that come."""
    old, new = (before or "").split("\n"), after.split("\n")
    for line in old:
        if line not in new:
            yield Change(file, "line", line, None, Effect.RELOAD)
    for line in new:
        if line not in old:
            yield Change(file, "line", None, line, Effect.RELOAD)


def users_changed(
    file: str, before: Mapping[str, str], after: Mapping[str, str]
) -> Iterator[Change]:
    """Yield the users whose secrets come, change or go; the secrets are not shown."""
    for user in dict.fromkeys((*before, *after)):
        was, now = before.get(user), after.get(user)
        if was != now:
            # A user who is taken out stays known, without a secret, until a restart.
            effect = Effect.RESTART if now is None else Effect.RELOAD
            yield Change(file, user, was and HIDDEN, now and HIDDEN, effect)
