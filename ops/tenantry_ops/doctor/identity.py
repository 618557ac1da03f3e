"""Whether a shard is who the catalog says, and sees the hash space as the map does: pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tenantry_ops.doctor.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tenantry_ops.doctor.facts import FleetFacts


def identities(facts: FleetFacts) -> Iterator[Finding]:
    """Yield the shards that belong elsewhere, or whose ranges or pins differ from the map's."""
    ranges = {
        it.number: (it.lo, it.hi)
        for it in facts.map.buckets()
        if it.lo is not None and it.hi is not None
    }
    pins = dict(facts.map.pins())
    for number, shard in facts.shards.items():
        if shard.who != (facts.map.fleet_id, number):
            said = "nobody" if shard.who is None else f"shard {shard.who[1]} of {shard.who[0]}"
            yield Finding(
                f"shard {shard.name}",
                f"says that it is {said}, the catalog says shard {number} of {facts.map.fleet_id}",
                "correct tenantry.nodes in the catalog: it names another fleet's database",
            )
        yield from _behind(f"ranges on {shard.name}", "buckets", ranges, shard.ranges)
        yield from _behind(f"pins on {shard.name}", "positions", pins, shard.pins)


def _behind(
    name: str, what: str, wanted: Mapping[int, object], there: Mapping[int, object]
) -> Iterator[Finding]:
    keys = wanted.keys() | there.keys()
    wrong = sorted(key for key in keys if wanted.get(key) != there.get(key))
    if wrong:
        yield Finding(
            name,
            f"differ from the map for {len(wrong)} {what}, such as {wrong[0]}: "
            "tenantry.bucket_of answers wrongly there",
            "run `tenantry map publish`",
        )
