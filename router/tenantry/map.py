"""The map: an immutable snapshot of the catalog, from a key to a bucket to a shard.

Ranges are kept as sorted arrays and found by one ``bisect``; a pin is found by its 32-bit position,
which the catalog keeps unique among pinned tenants and refuses to share with any tenant it knows.
Look-ups of warm keys end in a bounded table.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from tenantry.errors import InvalidConfig, UnknownBucket, UnknownShard
from tenantry.ids import parse_agent_id
from tenantry.keys import POSITIONS, KeyType, TenantKey, normalize, position
from tenantry_schema.naming import bucket_schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_WARM = 65_536
_EXACT = frozenset({UUID, int, str})


@dataclass(frozen=True, slots=True)
class Node:
    """One Postgres server of a shard: where it is, never which role it has.

    :ivar zone: where it stands (a zone, a rack), for readers who are near; None when nobody said
    """

    name: str
    host: str
    port: int
    dbname: str
    zone: str | None = None


@dataclass(frozen=True, slots=True)
class Shard:
    """One primary and its replicas.

    :ivar durability: what a commit survives: ``local``, or ``two-nodes``
    :ivar fleet: the fleet that it belongs to; None before there is one
    """

    id: int
    name: str
    nodes: tuple[Node, ...]
    durability: str = "local"
    fleet: UUID | None = None

    @property
    def home(self) -> str:
        """What its servers say of themselves in ``tenantry.shard``."""
        return f"{self.fleet}/{self.id}"


class Placement(NamedTuple):
    """Where a bucket lives: its number, its schema's name, its shard's id."""

    bucket: int
    schema: str
    shard: int


class Bucket(NamedTuple):
    """One bucket as the catalog has it; a pinned tenant's bucket has no range (``lo is None``)."""

    number: int
    generation: int
    shard: int
    lo: int | None
    hi: int | None


class Pins(NamedTuple):
    """Where tenants are pinned, in order of their positions."""

    positions: array[int]
    numbers: array[int]

    @classmethod
    def of(cls, pairs: Iterable[tuple[int, int]]) -> Pins:
        """Return them of (position, bucket number) in any order."""
        ordered = sorted(pairs)
        return cls(array("Q", (at for at, _ in ordered)), array("q", (it for _, it in ordered)))


class Map:
    """Where every tenant lives, at one version of the catalog.

    :param buckets: every bucket that is served; ranges must cover all positions without overlap
    :param pins: where tenants are pinned
    :raises InvalidConfig: for gaps, overlaps, doubled numbers or pins to unknown buckets
    """

    __slots__ = (
        "_generations",
        "_numbers",
        "_pin_buckets",
        "_pin_positions",
        "_range_numbers",
        "_range_starts",
        "_shard_of",
        "_warm",
        "fleet_id",
        "key_type",
        "shards",
        "version",
    )

    def __init__(  # noqa: PLR0913  the parts of one snapshot
        self,
        *,
        version: int,
        fleet_id: UUID,
        key_type: KeyType,
        shards: Mapping[int, Shard],
        buckets: Iterable[Bucket],
        pins: Pins | None = None,
    ) -> None:
        self.version = version
        self.fleet_id = fleet_id
        self.key_type = key_type
        self.shards = shards
        ordered = sorted(buckets)
        self._numbers = array("q", (bucket.number for bucket in ordered))
        self._generations = array("q", (bucket.generation for bucket in ordered))
        self._shard_of = array("q", (bucket.shard for bucket in ordered))
        _check_numbers(self._numbers)
        ranges = sorted(
            (b.lo, b.hi, b.number) for b in ordered if b.lo is not None and b.hi is not None
        )
        _check_ranges(ranges)
        self._range_starts = array("Q", (lo for lo, _, _ in ranges))
        self._range_numbers = array("q", (number for _, _, number in ranges))
        self._pin_positions, self._pin_buckets = pins or Pins.of(())
        self._check_pins()
        self._warm: dict[TenantKey, Placement] = {}

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def pin_count(self) -> int:
        """How many tenants are pinned."""
        return len(self._pin_positions)

    def pins(self) -> Iterator[tuple[int, int]]:
        """Yield position and bucket of every pinned tenant, by position."""
        return zip(self._pin_positions, self._pin_buckets, strict=True)

    @property
    def undescribed(self) -> list[int]:
        """The ids of shards that buckets are placed on and that the map does not describe."""
        return sorted(set(self._shard_of) - self.shards.keys())

    def of_tenant(self, key: TenantKey) -> Placement:
        """Say where a tenant lives: by its pin, else by its hash.

        :raises InvalidKey: for a key that is not of the fleet's type
        :raises UnknownShard: when the map places its bucket on a shard that it does not describe
        """
        # True == 1 == 1.0: only a key of an exact type may find a warm one.
        found = self._warm.get(key) if type(key) in _EXACT else None
        if found is not None:
            return found
        placement = self.at(position(normalize(key, self.key_type)))
        if len(self._warm) >= _WARM:
            self._warm.clear()
        self._warm[key] = placement
        return placement

    def of_agent(self, agent: UUID) -> Placement:
        """Say where an agent lives, by the bits of its id.

        :raises InvalidKey: for an id that was not minted by tenantry
        """
        return self.at(parse_agent_id(agent).position)

    def at(self, where: int) -> Placement:
        """Say which bucket owns a position of the hash space, pins first."""
        pin = bisect_right(self._pin_positions, where) - 1
        if pin >= 0 and self._pin_positions[pin] == where:
            return self.of_bucket(self._pin_buckets[pin])
        return self.of_bucket(self._range_numbers[bisect_right(self._range_starts, where) - 1])

    def of_bucket(self, number: int) -> Placement:
        """Say where a bucket lives.

        :raises UnknownBucket: when no such bucket is served
        :raises UnknownShard: when its shard is not described
        """
        index = bisect_right(self._numbers, number) - 1
        if index < 0 or self._numbers[index] != number:
            raise UnknownBucket(f"map version {self.version} has no bucket {number}")
        shard = self._shard_of[index]
        if shard not in self.shards:
            raise self.unknown_shard(shard, f"bucket {number}")
        return Placement(number, bucket_schema(number, self._generations[index]), shard)

    def unknown_shard(self, shard: int, what: str) -> UnknownShard:
        """Return the error for what is placed on a shard that is not described."""
        return UnknownShard(
            f"map version {self.version} places {what} on shard {shard}, which it does not "
            "describe: run `tenantry doctor`"
        )

    def buckets(self) -> Iterator[Bucket]:
        """Yield every bucket by number."""
        bounds = [*self._range_starts, POSITIONS]
        spans = {
            number: (bounds[index], bounds[index + 1])
            for index, number in enumerate(self._range_numbers)
        }
        rows = zip(self._numbers, self._generations, self._shard_of, strict=True)
        for number, generation, shard in rows:
            lo, hi = spans.get(number, (None, None))
            yield Bucket(number, generation, shard, lo, hi)

    def placements(self) -> Iterator[Placement]:
        """Yield where every bucket lives, by number, also on shards that are not described."""
        for bucket in self.buckets():
            schema = bucket_schema(bucket.number, bucket.generation)
            yield Placement(bucket.number, schema, bucket.shard)

    def _check_pins(self) -> None:
        known = set(self._numbers)
        before = -1
        for at, number in zip(self._pin_positions, self._pin_buckets, strict=True):
            if at >= POSITIONS or at <= before:
                raise InvalidConfig(f"position {at} is pinned twice or lies outside the hash space")
            if number not in known:
                raise InvalidConfig(
                    f"position {at} is pinned to bucket {number}, which is not served"
                )
            before = at


def _check_numbers(numbers: array[int]) -> None:
    for before, after in pairwise(numbers):
        if before == after:
            raise InvalidConfig(f"bucket {after} is in the map twice")


def _check_ranges(ranges: list[tuple[int, int, int]]) -> None:
    reached = 0
    for lo, hi, number in ranges:
        if lo != reached or hi <= lo:
            fault = "a gap" if lo > reached else "an overlap"
            raise InvalidConfig(
                f"{fault} in the hash space before bucket {number}: ranges reach {reached}, "
                f"it owns [{lo}, {hi})"
            )
        reached = hi
    if reached != POSITIONS:
        raise InvalidConfig(f"the ranges of the map end at {reached} instead of {POSITIONS}")
