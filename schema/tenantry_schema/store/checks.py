"""What the stores refuse before anything happens: each message names the value and the bound."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from tenantry_schema.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Bytes of JSON that one document may have: payload, result, progress, metadata, detail.
DOCUMENT_BYTES = 256 * 1024
#: Bytes of JSON of an actor's state.
STATE_BYTES = 1024 * 1024
#: Rows of one page of a listing.
PAGE = 1000
#: Below every id that was ever made: where a listing begins.
BEFORE_ALL = UUID(int=0)

_LONGEST_TIME = timedelta(days=366)
# ``json.dumps`` makes one anew for each document.
_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
# An odd number of backslashes: the character NUL, which jsonb cannot hold, not the text "\u0000".
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


def uuid(name: str, value: object) -> UUID:
    """Return a UUID, or refuse what is none."""
    if not isinstance(value, UUID):
        raise InvalidInput(f"{name}= takes a uuid.UUID, not {value!r:.60}")
    return value


def optional_uuid(name: str, value: object) -> UUID | None:
    """Return a UUID or None, or refuse what is neither."""
    return None if value is None else uuid(name, value)


def text(name: str, value: object, *, most: int) -> str:
    """Return text of 1 to ``most`` characters that Postgres can hold."""
    if not isinstance(value, str) or not 1 <= len(value) <= most or not _storable(value):
        raise InvalidInput(
            f"{name}= takes text of 1 to {most} characters without NUL, not {value!r:.60}"
        )
    return value


def optional_text(name: str, value: object, *, most: int) -> str | None:
    """Return text as :func:`text` does, or None."""
    return None if value is None else text(name, value, most=most)


def queue(value: object) -> str:
    """Return a queue's name; ``*`` stands for all of a tenant's queues and names none."""
    found = text("queue", value, most=63)
    if found == "*":
        raise InvalidInput("queue= names one queue; '*' stands for all of them, in limits only")
    return found


def choice(name: str, value: object, allowed: Sequence[str]) -> str:
    """Return one of the allowed words."""
    if value not in allowed:
        raise InvalidInput(f"{name}= is one of {', '.join(allowed)}, not {value!r:.60}")
    return str(value)


def whole(name: str, value: object, *, least: int = 0, most: int = 2**31 - 1) -> int:
    """Return an int within bounds; True and 1.0 are none."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidInput(
            f"{name}= takes a whole number from {least} to {most}, not {value!r:.60}"
        )
    return value


def span(name: str, value: object, *, least: timedelta = timedelta(0)) -> timedelta:
    """Return a time span; a number is taken as seconds."""
    given: object = value
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not abs(value) < 1e12:
            raise InvalidInput(f"{name}= takes seconds or a timedelta, not {value!r:.60}")
        given = timedelta(seconds=value)
    if not isinstance(given, timedelta) or not least <= given <= _LONGEST_TIME:
        raise InvalidInput(
            f"{name}= takes seconds or a timedelta from {least} to {_LONGEST_TIME}, "
            f"not {value!r:.60}"
        )
    return given


def lease(value: object) -> timedelta:
    """Return the length of a lease."""
    return span("lease", value, least=timedelta(milliseconds=100))


def moment(name: str, value: object) -> datetime:
    """Return a moment that says its time zone."""
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise InvalidInput(f"{name}= takes a datetime with a time zone, not {value!r:.60}")
    return value


def optional_moment(name: str, value: object) -> datetime | None:
    """Return a moment that says its time zone, or None."""
    return None if value is None else moment(name, value)


def page(value: object) -> int:
    """Return how many rows a listing may give."""
    return whole("limit", value, least=1, most=PAGE)


def document(name: str, value: object, *, most: int = DOCUMENT_BYTES) -> str:
    """Return a value as JSON text that Postgres can hold.

    :raises InvalidInput: for what is no JSON, holds NaN, NUL or half a surrogate pair, or is larger
        than ``most`` bytes
    """
    try:
        made = _JSON.encode(value)
        size = len(made.encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(
            f"{name}= must be JSON that Postgres can hold: {error!s:.200}"
        ) from error
    if size > most:
        raise InvalidInput(
            f"{name}= has {size:,} bytes of JSON, of at most {most:,}: keep the document where "
            "documents are kept, and give its address"
        )
    if "\\u0000" in made and _NUL.search(made):
        raise InvalidInput(f"{name}= contains the character NUL, which jsonb cannot hold")
    return made


def mapping(name: str, value: object, *, most: int = DOCUMENT_BYTES) -> str:
    """Return a JSON object as text."""
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise InvalidInput(f"{name}= takes a dict with text keys, not {type(value).__name__}")
    return document(name, value, most=most)


def _storable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in value
