"""What PgBouncer would refuse, or read as something else than is written: pure.

There is no way to ask PgBouncer itself: it has no dry run, and a RELOAD of a file that it cannot
read applies the part before the bad line and sets every later key back to its default (1.18 answers
RELOAD all the same). So nothing is put in place that was not checked here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tenantry_ops.bouncer.connstr import parse_pairs
from tenantry_ops.bouncer.ini import DATABASES, MAIN, Entry, Ini
from tenantry_ops.bouncer.rules import Problem, broken_rules
from tenantry_ops.bouncer.table import (
    ENTRY_KEYS,
    NUMBERS,
    PEER_KEYS,
    SECTIONS,
    USER_KEYS,
    keys_of,
)
from tenantry_ops.bouncer.versions import QUOTED_KEYS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tenantry_ops.bouncer.versions import Version

_PAIRED = {DATABASES: ENTRY_KEYS, "users": USER_KEYS, "peers": PEER_KEYS}
_LONGEST = {DATABASES: 63, "users": 127}
_COMMENT = re.compile(r"\s[;#]")


def check_ini(ini: Ini, version: Version) -> list[Problem]:
    """Return everything that is wrong with a configuration for a version."""
    if ini.fault is not None:
        return [
            Problem(
                f"line {ini.fault.line}",
                f"{ini.fault.problem}; PgBouncer stops reading here",
                "mend the line: what follows it would fall back to defaults",
            )
        ]
    return [
        *_sections(ini, version),
        *_doubles(ini),
        *(it for entry in ini.entries for it in _entry(entry, version)),
        *broken_rules(ini, version),
    ]


def _sections(ini: Ini, version: Version) -> Iterator[Problem]:
    seen: set[str] = set()
    for name, line in ini.headers:
        since = SECTIONS.get(name)
        if since is None or since > version.minor:
            yield Problem(
                _at(name, line),
                f"PgBouncer {version} has no such section",
                f"use one of {', '.join(SECTIONS)}",
            )
        if name == MAIN and name in seen:
            yield Problem(
                _at(name, line),
                "the section begins again: every key that it gave before is set to its default",
                "join the two",
            )
        seen.add(name)
    if MAIN not in seen:
        yield Problem(f"[{MAIN}]", "is missing: PgBouncer refuses the file", "write the section")
    for line in ini.quoted if version < QUOTED_KEYS else ():
        yield Problem(
            f"line {line}", f"PgBouncer {version} cannot read a key in quotes", "take them away"
        )


def _doubles(ini: Ini) -> Iterator[Problem]:
    seen: dict[tuple[str, str], int] = {}
    for entry in ini.entries:
        before = seen.setdefault((entry.section, entry.key), entry.line)
        if before != entry.line:
            yield Problem(
                _at(entry.section, entry.line, entry.key),
                f"was given before, on line {before}: the last one wins, silently",
                "keep one",
            )


def _entry(entry: Entry, version: Version) -> Iterator[Problem]:
    where = _at(entry.section, entry.line, entry.key)
    if entry.section == MAIN:
        key = keys_of(version).get(entry.key)
        if key is None:
            yield Problem(where, f"PgBouncer {version} does not know this key", "take it away")
            return
        problem = key.problem(entry.value)
        if problem is not None:
            yield Problem(where, f"its value {problem}", "correct it")
        elif _looks_quoted(entry.value) or _COMMENT.search(entry.value):
            yield Problem(
                where,
                "quotes and comments behind a value are part of the value",
                "take them away, or put the comment on a line of its own",
            )
    elif entry.section in _PAIRED:
        yield from _pairs(entry, version, where)


def _pairs(entry: Entry, version: Version, where: str) -> Iterator[Problem]:
    longest = _LONGEST.get(entry.section, 63)
    if not 1 <= len(entry.key) <= longest or (entry.section, entry.key) == (DATABASES, MAIN):
        yield Problem(
            where, f"names have 1 to {longest} characters, and 'pgbouncer' is reserved", "rename it"
        )
    try:
        pairs = parse_pairs(entry.value)
    except ValueError as error:
        yield Problem(where, f"{error}", "write key=value, with values in single quotes")
        return
    for key, value in pairs.items():
        since = _PAIRED[entry.section].get(key)
        if since is None or since > version.minor:
            yield Problem(where, f"PgBouncer {version} does not know {key}=", "take it away")
        elif key in NUMBERS and not re.fullmatch(r"[0-9]{1,9}", value):
            yield Problem(where, f"{key}= is no number, and would count as 0", "correct it")
        elif key == "pool_mode" and value.lower() not in {"session", "transaction", "statement"}:
            yield Problem(where, "pool_mode= is no mode", "write transaction")
    if pairs.get("pool_mode", "").lower() == "statement":
        yield Problem(
            where,
            "pool_mode=statement refuses transactions, which all routed work is",
            "write transaction, or leave it away",
        )


def _looks_quoted(value: str) -> bool:
    return len(value) > 1 and value[0] in "'\"" and value[0] == value[-1]


def _at(section: str, line: int, key: str | None = None) -> str:
    name = f"[{section[:40]}]" if key is None else f"[{section}] {key[:80]}"
    return name if line == 0 else f"{name}, line {line}"
