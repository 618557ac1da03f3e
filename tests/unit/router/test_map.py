from __future__ import annotations

import tracemalloc
from itertools import pairwise
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry import mint_agent_id
from tenantry.catalog_writes import equal_ranges
from tenantry.errors import InvalidConfig, InvalidKey, UnknownBucket, UnknownShard
from tenantry.keys import POSITIONS, KeyType, position
from tenantry.map import Bucket, Map, Node, Pins, Shard

SHARDS = {1: Shard(1, "one", (Node("a", "h", 1, "d"),)), 2: Shard(2, "two", ())}


def make(buckets, pins=(), shards=SHARDS):
    return Map(
        version=1,
        fleet_id=uuid4(),
        key_type=KeyType.UUID,
        shards=shards,
        buckets=buckets,
        pins=Pins.of(pins),
    )


def ranges(count):
    return [
        Bucket(number, 1, 1 + number % 2, lo, hi)
        for number, (lo, hi) in enumerate(equal_ranges(count))
    ]


@given(st.integers(1, 2000))
def test_equal_ranges_cut_the_space_as_citus_does(count):
    """No gap, no overlap, and range i holds the positions with ``p * N >> 32 == i``."""
    cut = equal_ranges(count)
    assert cut[0][0] == 0
    assert cut[-1][1] == POSITIONS
    assert all(before[1] == after[0] for before, after in pairwise(cut))
    for index, (lo, hi) in enumerate(cut):
        assert lo * count >> 32 == index == (hi - 1) * count >> 32


@given(st.sets(st.integers(1, POSITIONS - 1), max_size=50), st.lists(st.uuids(), max_size=20))
def test_every_key_has_one_bucket_whatever_the_ranges(cuts, keys):
    """Any partition of the space gives each tenant, and each of its agents, the owning range."""
    bounds = [0, *sorted(cuts), POSITIONS]
    buckets = [Bucket(it, 1, 1, lo, hi) for it, (lo, hi) in enumerate(pairwise(bounds))]
    held = make(buckets)
    for key in keys:
        found = held.of_tenant(key)
        lo, hi = bounds[found.bucket], bounds[found.bucket + 1]
        assert lo <= position(key) < hi
        assert held.of_agent(mint_agent_id(key)) == found == held.of_tenant(str(key))


def test_a_pin_comes_before_the_range():
    """A pinned tenant and its agents go to its own bucket, everybody else to their range."""
    key = uuid4()
    held = make([*ranges(4), Bucket(9, 3, 2, None, None)], [(position(key), 9)])
    assert held.of_tenant(key) == (9, "bucket_0009_g3", 2)
    assert held.of_agent(mint_agent_id(key)).bucket == 9
    assert held.of_tenant(uuid4()).bucket < 4


@pytest.mark.parametrize(
    ("buckets", "pins"),
    [
        ([], []),
        (ranges(4)[:-1], []),
        (ranges(4)[1:], []),
        ([*ranges(4), Bucket(7, 1, 1, 5, 9)], []),
        ([*ranges(4), *ranges(4)], []),
        (ranges(4), [(5, 77)]),
        (ranges(4), [(5, 1), (5, 2)]),
        (ranges(4), [(POSITIONS, 1)]),
    ],
)
def test_what_is_no_map_is_refused(buckets, pins):
    """Gaps, overlaps, doubled numbers and pins to nowhere never become a map."""
    with pytest.raises((InvalidConfig, OverflowError)):
        make(buckets, pins)


def test_a_missing_shard_is_named_when_it_is_needed():
    """A bucket on a shard that the map does not describe is an error of its own."""
    held = make(ranges(2), shards={1: SHARDS[1]})
    with pytest.raises(UnknownShard, match="shard 2"):
        held.of_bucket(1)
    with pytest.raises(UnknownBucket):
        held.of_bucket(5)


def test_a_bool_is_no_tenant_although_it_equals_one():
    """``True == 1`` finds no warm key."""
    held = make(ranges(2))
    with pytest.raises(InvalidKey):
        held.of_tenant(True)


@pytest.mark.slow
def test_a_large_map_stays_small():
    """65,536 buckets and a million pins stay under 200 MB."""
    buckets = ranges(65_536)
    pins = [(it * 4096, it % 65_536) for it in range(1_000_000)]
    tracemalloc.start()
    held = make(buckets, pins)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held.pin_count == 1_000_000
    assert size < 200 * 2**20
