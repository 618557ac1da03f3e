"""How a control column holds a moment: as itself, in the first 48 bits of a UUID, or as a count.

Bounds are read from and written to the server as text, in UTC.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from uuid import UUID

from tenantry_schema.errors import InvalidConfig

#: Where an open bound lies.
BEGINNING, END = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BOUND = r"\(?(?:'([^']*)'|(-?\d+|MINVALUE|MAXVALUE))\)?"
_RANGE = re.compile(rf"FOR VALUES FROM \({_BOUND}\) TO \({_BOUND}\)\Z")
_UUID_MS_SHIFT = 80
_OPEN = {"MINVALUE": BEGINNING, "-infinity": BEGINNING, "MAXVALUE": END, "infinity": END}
_DATE_LENGTH = len("2026-11-23")


class Encoding(StrEnum):
    """What the values of a control column are."""

    TIME = "time"
    UUID7 = "uuid7"
    SECONDS = "seconds"
    MILLISECONDS = "milliseconds"


#: The types of columns that each may be.
TYPES = {
    Encoding.TIME: ("timestamp with time zone", "timestamp without time zone", "date"),
    Encoding.UUID7: ("uuid",),
    Encoding.SECONDS: ("bigint",),
    Encoding.MILLISECONDS: ("bigint",),
}


def default_encoding(column_type: str) -> Encoding:
    """Return what a column of a type most likely holds.

    :raises InvalidConfig: for a type that holds no time, or does not say in which unit
    """
    for encoding in (Encoding.TIME, Encoding.UUID7):
        if column_type in TYPES[encoding]:
            return encoding
    raise InvalidConfig(
        f"a control column is a timestamp, a date, a uuid or a bigint, not {column_type}; for a "
        "bigint say whether it counts seconds or milliseconds"
    )


def encode(moment: datetime, encoding: Encoding) -> str:
    """Return the text of the first value of a moment; pure text, to be sent as a literal."""
    if encoding is Encoding.TIME:
        return moment.astimezone(UTC).isoformat(sep=" ")
    milliseconds = (moment - _EPOCH) // timedelta(milliseconds=1)
    if encoding is Encoding.UUID7:
        return str(UUID(int=milliseconds << _UUID_MS_SHIFT))
    return str(milliseconds if encoding is Encoding.MILLISECONDS else milliseconds // 1000)


def decode(text: str, encoding: Encoding) -> datetime:
    """Return the moment that a value's text means.

    :raises ValueError: for a text that means none
    """
    if encoding is Encoding.TIME:
        plain = f"{text} 00:00:00" if len(text) == _DATE_LENGTH else text
        moment = datetime.fromisoformat(plain)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    if encoding is Encoding.UUID7:
        return _EPOCH + timedelta(milliseconds=UUID(text).int >> _UUID_MS_SHIFT)
    unit = "milliseconds" if encoding is Encoding.MILLISECONDS else "seconds"
    return _EPOCH + timedelta(**{unit: int(text)})


def decode_value(text: str, encoding: Encoding) -> datetime:
    """Return the moment that a row's value means; what no calendar here holds lies at its ends.

    Rows of ``infinity``, before Christ or of a random UUID are what default partitions collect.
    """
    if text in _OPEN:
        return _OPEN[text]
    try:
        return decode(text, encoding)
    except (ValueError, OverflowError):
        return BEGINNING if text.startswith("-") or text.endswith(" BC") else END


def decode_range(bound: str, encoding: Encoding) -> tuple[datetime, datetime] | None:
    """Return where a partition begins and ends, from what Postgres prints of its bound.

    None for a bound that is no range of moments.
    """
    found = _RANGE.match(bound)
    if found is None:
        return None
    try:
        start, end = (
            _OPEN[text] if text in _OPEN else decode(text, encoding)
            for text in (found[1] or found[2], found[3] or found[4])
        )
    except (ValueError, OverflowError):
        return None
    return start, end
