"""Postgres's own 32-bit hashes of uuid, bigint and text, in integer arithmetic.

These are the functions behind hash indexes (``uuid_hash``, ``hashint8``, ``hashtext``; Jenkins's
lookup3 as in src/common/hashfn.c), so SQL computes the same numbers, and Citus distributes by
them. The vectors in the tests were made by a server.
"""

from __future__ import annotations

from struct import Struct

_MASK = 0xFFFFFFFF
_SEED = 0x9E3779B9 + 3923095
_SIGN = 1 << 31
_WORDS = Struct("<3I").unpack_from


def _mix(a: int, b: int, c: int) -> tuple[int, int, int]:
    a = ((a - c) ^ ((c << 4 | c >> 28) & _MASK)) & _MASK
    c = (c + b) & _MASK
    b = ((b - a) ^ ((a << 6 | a >> 26) & _MASK)) & _MASK
    a = (a + c) & _MASK
    c = ((c - b) ^ ((b << 8 | b >> 24) & _MASK)) & _MASK
    b = (b + a) & _MASK
    a = ((a - c) ^ ((c << 16 | c >> 16) & _MASK)) & _MASK
    c = (c + b) & _MASK
    b = ((b - a) ^ ((a << 19 | a >> 13) & _MASK)) & _MASK
    a = (a + c) & _MASK
    c = ((c - b) ^ ((b << 4 | b >> 28) & _MASK)) & _MASK
    b = (b + a) & _MASK
    return a, b, c


def _final(a: int, b: int, c: int) -> int:
    c = ((c ^ b) - (b << 14 | b >> 18)) & _MASK
    a = ((a ^ c) - (c << 11 | c >> 21)) & _MASK
    b = ((b ^ a) - (a << 25 | a >> 7)) & _MASK
    c = ((c ^ b) - (b << 16 | b >> 16)) & _MASK
    a = ((a ^ c) - (c << 4 | c >> 28)) & _MASK
    b = ((b ^ a) - (a << 14 | a >> 18)) & _MASK
    c = ((c ^ b) - (b << 24 | b >> 8)) & _MASK
    return c - (1 << 32) if c >= _SIGN else c


def hash_bytes(data: bytes) -> int:
    """Return ``hash_any(data)`` as Postgres's signed 32-bit integer."""
    length = len(data)
    a = b = c = (_SEED + length) & _MASK
    offset = 0
    while length - offset >= 12:
        x, y, z = _WORDS(data, offset)
        a, b, c = _mix((a + x) & _MASK, (b + y) & _MASK, (c + z) & _MASK)
        offset += 12
    # The lowest byte of c is left to the length, which the seed holds already.
    tail = data[offset:]
    a = (a + int.from_bytes(tail[:4], "little")) & _MASK
    b = (b + int.from_bytes(tail[4:8], "little")) & _MASK
    c = (c + (int.from_bytes(tail[8:], "little") << 8)) & _MASK
    return _final(a, b, c)


def hash_uint32(value: int) -> int:
    """Return ``hash_uint32(value)`` as Postgres's signed 32-bit integer."""
    start = (_SEED + 4) & _MASK
    return _final((start + value) & _MASK, start, start)


def hash_int8(value: int) -> int:
    """Return ``hashint8(value)``: equal to ``hashint4`` where the value fits it."""
    low, high = value & _MASK, (value >> 32) & _MASK
    return hash_uint32(low ^ (high if value >= 0 else high ^ _MASK))
