"""Whether a shard is who the catalog says, and sees the hash space as the map does: pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tenantry_ops.doctor.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tenantry_ops.doctor.facts import FleetFacts


def identities(facts: FleetFacts) -> Iterator[Finding]:
    """Yield the shards that belong elsewhere, or whose ranges differ from the map's."""
    ranges = {
        it.number: (it.lo, it.hi)
        for it in facts.map.buckets()
        if it.lo is not None and it.hi is not None
    }
    for number, shard in facts.shards.items():
        if shard.who != (facts.map.fleet_id, number):
            said = "nobody" if shard.who is None else f"shard {shard.who[1]} of {shard.who[0]}"
            yield Finding(
                f"shard {shard.name}",
                f"says that it is {said}, the catalog says shard {number} of {facts.map.fleet_id}",
                "correct tenantry.nodes in the catalog: it names another fleet's database",
            )
        wrong = sorted(
            bucket
            for bucket in ranges.keys() | shard.ranges.keys()
            if ranges.get(bucket) != shard.ranges.get(bucket)
        )
        if wrong:
            yield Finding(
                f"ranges on {shard.name}",
                f"differ from the map for {len(wrong)} buckets, such as {wrong[0]}: "
                "tenantry.bucket_of answers wrongly there",
                "write the catalog's ranges to tenantry.ranges of the shard",
            )
