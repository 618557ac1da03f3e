"""Tokens: where a write stands in a shard's history (design, section 5). Pure.

An LSN means nothing without its lineage: after an asynchronous failover ``lsn >= token`` becomes
true for a row that was lost. So a token names the system and the timeline on which it was written,
and the shard's ``lineage`` table says where each timeline ended.
"""

from __future__ import annotations

import binascii
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from tenantry.errors import InvalidToken

if TYPE_CHECKING:
    from collections.abc import Sequence

_VERSION = 1
_FORM = struct.Struct(">BIQIQ")
_SUM = struct.Struct(">I")
_TEXT = 40


@dataclass(frozen=True, slots=True)
class Token:
    """Where a write stands; ``str(token)`` is its URL-safe text of 40 characters, without secrets.

    :ivar shard: the shard's number in the catalog
    :ivar system: the system identifier of its cluster
    :ivar timeline: the timeline on which it was written
    :ivar lsn: the byte position in the WAL behind the write
    """

    shard: int
    system: int
    timeline: int
    lsn: int

    def __str__(self) -> str:
        body = _FORM.pack(_VERSION, self.shard, self.system, self.timeline, self.lsn)
        # One byte fills the last group of base64, so that no padding is needed.
        return urlsafe_b64encode(body + _SUM.pack(binascii.crc32(body)) + b"\0").decode()

    @classmethod
    def parse(cls, text: str) -> Token:
        """Read a token's text.

        :raises InvalidToken: for anything that was not made by this class
        """
        given: object = text
        if not isinstance(given, str) or len(given) != _TEXT or not given.isascii():
            raise InvalidToken(_garbage(given))
        try:
            raw = urlsafe_b64decode(given)
        except (binascii.Error, ValueError):
            raise InvalidToken(_garbage(given)) from None
        body, check = raw[: _FORM.size], raw[_FORM.size :]
        if check != _SUM.pack(binascii.crc32(body)) + b"\0":
            raise InvalidToken(_garbage(given))
        version, shard, system, timeline, lsn = _FORM.unpack(body)
        if version != _VERSION:
            raise InvalidToken(f"a token of version {version} is not known to this version")
        return cls(shard, system, timeline, lsn)


@dataclass(frozen=True, slots=True)
class Line:
    """One row of a shard's ``lineage``: a timeline, and where the one before it ended.

    :ivar switch: None when that was not seen
    """

    system: int
    timeline: int
    switch: int | None


class Standing(Enum):
    """What a token stands for in a shard's history as it is now."""

    #: Written on the timeline that is current: compare positions.
    CURRENT = "current"
    #: Written on an earlier timeline, before it was left: it is part of the current one.
    KEPT = "kept"
    #: Written on an earlier timeline behind the place where it was left, or nobody saw that place.
    LOST = "lost"
    #: Of another cluster.
    FOREIGN = "foreign"


def standing(token: Token, lineage: Sequence[Line]) -> Standing:
    """Say what a token stands for.

    :param lineage: every row, in the order in which they were written; the last is current
    """
    if not lineage or lineage[-1].system != token.system:
        known = any(it.system == token.system for it in lineage)
        return Standing.LOST if known else Standing.FOREIGN
    current = lineage[-1].timeline
    if token.timeline == current:
        return Standing.CURRENT
    if token.timeline > current:
        return Standing.LOST
    later = [it for it in lineage if it.system == token.system and it.timeline > token.timeline]
    seen = {it.timeline for it in later} == set(range(token.timeline + 1, current + 1))
    kept = seen and all(it.switch is not None and token.lsn <= it.switch for it in later)
    return Standing.KEPT if kept else Standing.LOST


def parse_lsn(text: str) -> int:
    """Return the byte position of an LSN's text, such as ``16/B374D848``."""
    high, _, low = text.partition("/")
    return int(high, 16) << 32 | int(low, 16)


def parse_lines(text: str) -> tuple[Line, ...]:
    """Return the lines of a shard's history from one text: ``system timeline [switch],…``."""
    found = []
    for line in text.split(",") if text else ():
        system, timeline, *switch = line.split()
        found.append(Line(int(system), int(timeline), parse_lsn(switch[0]) if switch else None))
    return tuple(found)


def lsn_text(lsn: int) -> str:
    """Return the text of a byte position as Postgres writes it."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def _garbage(value: object) -> str:
    what = f"{len(value)} characters" if isinstance(value, str) else type(value).__name__
    return (
        f"a token is {_TEXT} characters of URL-safe text as str(token) gives it, not this "
        f"({what}): pass on what receipt.token gave"
    )
