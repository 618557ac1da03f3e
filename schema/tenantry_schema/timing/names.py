"""Names of time partitions, as pg_partman gives them: table, ``_p``, the beginning by a pattern.

The pattern is pg_partman's ``datetime_string``, a small part of Postgres's ``to_char``. A set keeps
its pattern for ever: pg_partman 4 finds its way by names.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime

from tenantry_schema.errors import InvalidConfig

#: pg_partman 5's patterns, for a day and more, and for less.
DAILY, HOURLY = "YYYYMMDD", "YYYYMMDD_HH24MISS"

_LONGEST = 63
_TOKEN = re.compile(r'IYYY|YYYY|HH24|IW|MM|DD|MI|SS|Q|"([^"]*)"|([_.:-])')
_DIGITS = {"YYYY": 4, "IYYY": 4, "MM": 2, "DD": 2, "HH24": 2, "MI": 2, "SS": 2, "IW": 2, "Q": 1}


def check_pattern(pattern: str) -> str:
    """Return a pattern if it is one.

    :raises InvalidConfig: naming the part that is not understood
    """
    _tokens(pattern)
    return pattern


def format_moment(pattern: str, moment: datetime) -> str:
    """Return a moment in UTC, written by a pattern."""
    at = moment.astimezone(UTC)
    iso = at.isocalendar()
    values = {
        "YYYY": at.year,
        "IYYY": iso.year,
        "MM": at.month,
        "DD": at.day,
        "HH24": at.hour,
        "MI": at.minute,
        "SS": at.second,
        "IW": iso.week,
        "Q": (at.month + 2) // 3,
    }
    return "".join(
        literal if literal is not None else f"{values[token]:0{_DIGITS[token]}d}"
        for token, literal in _tokens(pattern)
    )


def parse_moment(pattern: str, text: str) -> datetime | None:
    """Return the moment that a text written by a pattern begins at, or None for another text."""
    expression = "".join(
        re.escape(literal) if literal is not None else rf"(?P<{token}>\d{{{_DIGITS[token]}}})"
        for token, literal in _tokens(pattern)
    )
    found = re.fullmatch(expression, text, re.ASCII)
    if found is None:
        return None
    parts = {name: int(value) for name, value in found.groupdict().items()}
    try:
        return _moment(parts)
    except ValueError:
        return None


def partition_name(table: str, start: datetime, pattern: str) -> str:
    """Return the name of the partition that begins at a moment; a long table's name is shortened.

    :raises InvalidConfig: for a name that is not ASCII, where pg_partman's versions disagree
    """
    if not table.isascii():
        raise InvalidConfig(
            f"table {table!r:.80} is not ASCII: pg_partman cuts its partitions' names in other "
            "places from version to version; rename the table"
        )
    suffix = f"_p{format_moment(pattern, start)}"
    return table[: _LONGEST - len(suffix)] + suffix


def _moment(parts: dict[str, int]) -> datetime:
    if "IW" in parts:
        day = date.fromisocalendar(parts.get("IYYY", parts.get("YYYY", 0)), parts["IW"], 1)
        year, month, number = day.year, day.month, day.day
    else:
        year = parts["YYYY"] if "YYYY" in parts else parts["IYYY"]
        month = parts.get("MM", 3 * parts["Q"] - 2 if "Q" in parts else 1)
        number = parts.get("DD", 1)
    clock = (parts.get("HH24", 0), parts.get("MI", 0), parts.get("SS", 0))
    return datetime(year, month, number, *clock, tzinfo=UTC)


def _tokens(pattern: str) -> list[tuple[str, str | None]]:
    """Return the parts of a pattern: (token, None), or (anything, the literal text)."""
    found: list[tuple[str, str | None]] = []
    at = 0
    while at < len(pattern):
        match = _TOKEN.match(pattern, at)
        if match is None:
            raise InvalidConfig(
                f"pattern {pattern!r:.60} is not understood at {pattern[at:]!r:.20}: it is made of "
                'YYYY IYYY MM DD HH24 MI SS IW Q, "text" and _ . : -'
            )
        literal = match[1] if match[1] is not None else match[2]
        found.append((match[0], literal))
        at = match.end()
    names = [token for token, literal in found if literal is None]
    if len(set(names)) != len(names) or not {"YYYY", "IYYY"} & set(names):
        raise InvalidConfig(f"pattern {pattern!r:.60} needs a year, and each part only once")
    if any(not literal.isascii() for _, literal in found if literal is not None):
        raise InvalidConfig(f"pattern {pattern!r:.60} is not ASCII")
    return found
