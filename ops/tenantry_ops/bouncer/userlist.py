"""``userlist.txt``: names and secrets in doubled quotes (loader.c). Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tenantry_schema.errors import InvalidConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

_LONGEST_NAME = 127
_LONGEST_SECRET = 2047
_LINE = re.compile(r'\s*"((?:[^"]|"")*)"[^"\n]*"((?:[^"]|"")*)"[^\n]*')
_SKIP = re.compile(r"\s*(?:;[^\n]*)?")


def render_userlist(secrets: Mapping[str, str]) -> str:
    """Write name -> secret, one to a line.

    :raises InvalidConfig: naming a user whose name or secret PgBouncer cannot hold
    """
    return "".join(
        f'"{_doubled(name, name, _LONGEST_NAME)}" "{_doubled(name, secret, _LONGEST_SECRET)}"\n'
        for name, secret in secrets.items()
    )


def parse_userlist(text: str) -> dict[str, str]:
    """Read name -> secret; what PgBouncer stops at is refused.

    :raises InvalidConfig: naming the line, never what it holds
    """
    found: dict[str, str] = {}
    at = _skip(text, 0)
    while at < len(text):
        line = _LINE.match(text, at)
        if line is None:
            number = text.count("\n", 0, at) + 1
            raise InvalidConfig(
                f'userlist.txt, line {number}: expected "name" "secret"; PgBouncer reads nothing '
                "from here on and says nothing"
            )
        name, secret = (it.replace('""', '"') for it in line.groups())
        found[name] = secret
        at = _skip(text, line.end())
    return found


def _skip(text: str, at: int) -> int:
    while True:
        found = _SKIP.match(text, at)
        if found is None or found.end() == at:
            return at
        at = found.end()


def _doubled(name: str, value: str, longest: int) -> str:
    doubled = value.replace('"', '""')
    if len(doubled.encode()) > longest or not value or any(it in value for it in "\n\r\0"):
        raise InvalidConfig(
            f"user {name!r:.60}: PgBouncer's userlist.txt holds names of 1 to {_LONGEST_NAME} and "
            f"secrets of 1 to {_LONGEST_SECRET} bytes without a line break"
        )
    return doubled
