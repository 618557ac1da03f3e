from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry import InvalidKey, mint_agent_id
from tenantry.ids import parse_agent_id
from tenantry.keys import KeyType, normalize, position

#: The names of the tests must be the same in every process.
SOME = UUID("0b1e6a52-7f0e-4c1b-9d55-3f6a2c8e9d10")

BAD = {
    KeyType.UUID: [
        *(1, None, True, b"x", "", "x" * 36, "\0" * 36, SOME.hex, f"{{{SOME}}}", [], 1.5),
        "'; DROP TABLE tenants; --",
        "x" * 1_000_000,
    ],
    KeyType.BIGINT: [True, "1", None, 2**63, -(2**63) - 1, 1.0, SOME, 10**400],
    KeyType.TEXT: [
        1,
        None,
        b"x",
        "",
        "a\0b",
        "a\nb",
        "\ud800",
        "x" * 201,
        "ü" * 101,
        "x" * 1_000_000,
    ],
}


@pytest.mark.parametrize(
    ("key_type", "key"), [(kind, key) for kind, keys in BAD.items() for key in keys]
)
def test_bad_keys_are_refused_briefly(key_type, key):
    """Each bad key has a named error, whose message never echoes a megabyte."""
    with pytest.raises(InvalidKey) as caught:
        normalize(key, key_type)
    assert len(str(caught.value)) < 300


def test_good_keys_pass():
    """A UUID also passes as its canonical text; SQL in a text key is only text."""
    key = uuid4()
    assert normalize(str(key), KeyType.UUID) == key
    assert normalize(-(2**63), KeyType.BIGINT) == -(2**63)
    assert normalize("'; DROP TABLE x; --", KeyType.TEXT) == "'; DROP TABLE x; --"


@given(st.uuids(), st.integers(0, 2**48 - 1))
def test_agent_ids_carry_their_tenants_position(tenant, ms):
    """What was minted is read back: time and position; it is a UUIDv8 of the standard variant."""
    agent = mint_agent_id(tenant, now_ms=ms)
    assert parse_agent_id(agent) == (ms, position(tenant))
    assert agent.version == 8


@pytest.mark.parametrize("agent", [SOME, UUID(int=0), "x", None, 5])
def test_foreign_agent_ids_are_refused(agent):
    """An id that was not minted here routes nowhere."""
    with pytest.raises(InvalidKey):
        parse_agent_id(agent)


@pytest.mark.parametrize("tenant", [None, True, 1.5, b"x"])
def test_minting_for_no_tenant_is_refused(tenant):
    """Ids are minted for keys only."""
    with pytest.raises(InvalidKey):
        mint_agent_id(tenant)
