"""Values of ``[databases]``: ``key=value`` pairs with PgBouncer's own quotes (loader.c). Pure.

Only a space divides pairs; a quoted value doubles its quotes; an empty value is refused. Whatever
follows a closing quote is swallowed, which :func:`parse_pairs` refuses instead.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tenantry_ops.bouncer.ini import DATABASES
from tenantry_schema.errors import InvalidConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

_PLAIN = re.compile(r"[A-Za-z0-9_./:-]+\Z")
_PAIR = re.compile(r" *([^= ]+) *= *(?:'((?:[^']|'')*)'(?= |\Z)|([^' ][^ ]*))")

#: Keys whose values are never shown, and what stands in their place.
_SECRET = frozenset({"password", "auth_ldap_options"})
HIDDEN = "***"


def render_pairs(pairs: Mapping[str, str | int]) -> str:
    """Write pairs so that they read back the same.

    :raises InvalidConfig: for an empty value, or one with a line break
    """
    return " ".join(f"{key}={_quoted(key, str(value))}" for key, value in pairs.items())


def parse_pairs(text: str) -> dict[str, str]:
    """Read pairs.

    :raises ValueError: saying what cannot be read, without showing a value
    """
    pairs: dict[str, str] = {}
    at, end = 0, len(text.rstrip(" "))
    while at < end:
        found = _PAIR.match(text, at)
        if found is None:
            last = next(reversed(pairs), None)
            where = f"after {last}=" if last is not None else "at its beginning"
            raise ValueError(f"is no list of key=value pairs {where}")
        key, quoted, plain = found.groups()
        value = plain if quoted is None else quoted.replace("''", "'")
        if not value:
            raise ValueError(f"gives {key} no value")
        if quoted is None and ("=" in value or any(it.isspace() for it in value)):
            # `host= port=1` is a host named port=1; a tab does not divide pairs.
            raise ValueError(f"gives {key} a value that must stand in quotes, or none at all")
        if key in pairs:
            raise ValueError(f"gives {key} twice")
        pairs[key] = value
        at = found.end()
    return pairs


def shown_pairs(text: str) -> str:
    """Return an entry's value for people: no password in it."""
    try:
        pairs = parse_pairs(text)
    except ValueError:
        return "(cannot be read)"
    hidden = {key: HIDDEN if key in _SECRET else value for key, value in pairs.items()}
    return render_pairs(hidden)


def shown_value(section: str, key: str, value: str | None) -> str | None:
    """Return any value of the configuration for people: without secrets."""
    if value is None:
        return None
    if section == DATABASES:
        return shown_pairs(value)
    return HIDDEN if key in _SECRET else value


def _quoted(key: str, value: str) -> str:
    if not value or any(it in value for it in "\n\r\0"):
        raise InvalidConfig(
            f"{key}= of an entry in [databases] can be neither empty nor hold a line break"
        )
    if _PLAIN.match(value):
        return value
    return "'" + value.replace("'", "''") + "'"
