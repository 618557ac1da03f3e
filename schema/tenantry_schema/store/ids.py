"""Ids that the client makes: UUIDv7 (RFC 9562), so that B-trees grow at one end."""

from __future__ import annotations

import secrets
import time
from uuid import UUID

_VERSION = 7 << 76
_VARIANT = 0b10 << 62


def new_id() -> UUID:
    """Return a new id: 48 bits of Unix milliseconds, 74 random ones."""
    ms = time.time_ns() // 1_000_000
    random = secrets.randbits(74)
    return UUID(
        int=(ms & (1 << 48) - 1) << 80
        | _VERSION
        | (random >> 62) << 64
        | _VARIANT
        | random & ((1 << 62) - 1)
    )
