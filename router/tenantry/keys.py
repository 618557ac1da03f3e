"""Tenant keys: what a caller may name a tenant by, and where its hash falls.

A fleet has one key type, fixed when it is made. A key is checked at the door, before anything else
happens with it: from there on it is bound as a parameter or quoted by libpq, never part of a name.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias
from uuid import UUID

from tenantry.errors import InvalidKey
from tenantry.hashing import hash_bytes, hash_int8

TenantKey: TypeAlias = UUID | int | str

#: Positions are hashes shifted to start at zero: ``0 <= position < POSITIONS``.
POSITIONS = 1 << 32

_INT8 = 1 << 63
_LONGEST = 200
_SHOWN = 40


class KeyType(StrEnum):
    """The type of ``tenant_id`` in every table of a fleet, by its Postgres name."""

    UUID = "uuid"
    BIGINT = "bigint"
    TEXT = "text"


def normalize(key: object, key_type: KeyType) -> TenantKey:
    """Return the key as the fleet's type, or refuse it.

    :param key: a UUID (or its canonical text), an int of 64 bits, or a str of 1 to 200 UTF-8 bytes
        without control characters, as the fleet's key type asks for
    :raises InvalidKey: saying what was given and what is expected
    """
    if key_type == KeyType.UUID:
        return _uuid(key)
    if key_type == KeyType.BIGINT:
        return _bigint(key)
    return _text(key)


def hash32(key: TenantKey) -> int:
    """Return the signed 32-bit hash that Postgres gives the (normalised) key."""
    if isinstance(key, UUID):
        return hash_bytes(key.bytes)
    if isinstance(key, int):
        return hash_int8(key)
    return hash_bytes(key.encode())


def position(key: TenantKey) -> int:
    """Return where the (normalised) key falls: ``hash32(key) + 2**31``."""
    return hash32(key) + (POSITIONS >> 1)


def key_text(key: TenantKey) -> str:
    """Return the text of a (normalised) key, as settings and the catalog hold it."""
    return str(key)


def parse_key(text: str, key_type: KeyType) -> TenantKey:
    """Return the key of which :func:`key_text` gave the text."""
    return normalize(int(text) if key_type == KeyType.BIGINT else text, key_type)


def shown(value: object) -> str:
    """Return a value for a message: its type and at most 40 characters of it."""
    kind = type(value).__name__
    if not isinstance(value, str | bytes | int | UUID):
        return kind
    if isinstance(value, int) and value.bit_length() > 256:
        return f"int of {value.bit_length()} bits"
    text = ascii(value[: _SHOWN + 1] if isinstance(value, str | bytes) else value)
    return f"{kind} {text if len(text) <= _SHOWN else text[:_SHOWN] + '…'}"


def _uuid(key: object) -> UUID:
    if isinstance(key, UUID):
        return key
    if isinstance(key, str) and len(key) == 36:
        try:
            parsed = UUID(key)
        except ValueError:
            parsed = None
        if parsed is not None and str(parsed) == key.lower():
            return parsed
    raise InvalidKey(
        "tenants of this fleet are UUIDs: expected uuid.UUID or its canonical text, "
        f"got {shown(key)}"
    )


def _bigint(key: object) -> int:
    if isinstance(key, bool) or not isinstance(key, int):
        raise InvalidKey(f"tenants of this fleet are integers: expected int, got {shown(key)}")
    if not -_INT8 <= key < _INT8:
        raise InvalidKey(f"tenants of this fleet are bigint: {shown(key)} does not fit 64 bits")
    return key


def _text(key: object) -> str:
    if not isinstance(key, str):
        raise InvalidKey(f"tenants of this fleet are text: expected str, got {shown(key)}")
    if not key or len(key) > _LONGEST:
        raise InvalidKey(f"a tenant's text has 1 to {_LONGEST} bytes, not {len(key)} characters")
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise InvalidKey(f"a tenant's text must be valid Unicode, not {shown(key)}") from None
    if size > _LONGEST:
        raise InvalidKey(f"a tenant's text has 1 to {_LONGEST} bytes, not {size}")
    if any(character < " " or "\x7f" <= character <= "\x9f" for character in key):
        raise InvalidKey(f"a tenant's text has no control characters: {shown(key)}")
    return key
