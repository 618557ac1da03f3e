from __future__ import annotations

import json
from pathlib import Path
from uuid import UUID

import pytest

from tenantry.hashing import hash_bytes, hash_int8
from tenantry.keys import hash32

VECTORS = json.loads((Path(__file__).parent / "vectors.json").read_text())


@pytest.mark.parametrize(("key", "expected"), VECTORS["uuid"])
def test_uuid_vectors_of_a_server(key, expected):
    """The frozen answers of `uuid_hash`."""
    assert hash_bytes(UUID(key).bytes) == expected


@pytest.mark.parametrize(("key", "expected"), VECTORS["bigint"])
def test_bigint_vectors_of_a_server(key, expected):
    """The frozen answers of `hashint8`, at every edge of 64 bits."""
    assert hash_int8(key) == expected


@pytest.mark.parametrize(("key", "expected"), VECTORS["text"])
def test_text_vectors_of_a_server(key, expected):
    """The frozen answers of `hashtext`, at every length around the 12-byte blocks."""
    assert hash32(key) == expected
