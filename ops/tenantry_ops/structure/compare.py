"""What differs between what is there and what should be: pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from tenantry_ops.structure.facts import Parts, Structure


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is missing, unexpected or different.

    :ivar table: empty where it is the schema itself
    :ivar part: the kind and the name of what differs, such as ``column payload``
    :ivar expected: its definition as it should be, or None where it should not be there
    :ivar found: its definition as it is, or None where it is missing
    """

    shard: str
    schema: str
    table: str
    part: str
    expected: str | None
    found: str | None


def misplaced(
    shard: str, placed: Collection[str], there: Collection[str], homes: Mapping[str, str]
) -> Iterator[Difference]:
    """Yield each bucket that a shard lacks, and each that it has although it is not its own.

    :param placed: the schemas of the buckets that the catalog places on the shard
    :param there: the schemas of buckets that the shard has
    :param homes: schema -> the name of the shard that the catalog places it on
    """
    for schema in sorted({*placed, *there}):
        if schema not in there:
            yield Difference(shard, schema, "", "schema", "the catalog places it here", None)
        elif schema not in placed:
            home = homes.get(schema)
            why = "which the catalog places nowhere" if home is None else f"whose home is {home}"
            yield Difference(shard, schema, "", "schema", None, f"a bucket {why}")


def differences(
    shard: str, schema: str, expected: Structure, found: Structure
) -> Iterator[Difference]:
    """Yield each difference of one schema, in the order of its tables."""
    for table in sorted(expected.tables.keys() | found.tables.keys()):
        wanted, there = expected.tables.get(table), found.tables.get(table)
        if wanted is None or there is None:
            yield Difference(shard, schema, table, "table", _head(wanted), _head(there))
            continue
        yield from _parts(shard, schema, table, wanted, there)
    models = dict(expected.partitions.values())
    for name, (table, there) in sorted(found.partitions.items()):
        wanted = models.get(table)
        if wanted is None:
            yield Difference(shard, schema, name, "table", None, _head(there))
        else:
            yield from _parts(shard, schema, name, wanted, there)


def _parts(
    shard: str, schema: str, table: str, wanted: Parts, there: Parts
) -> Iterator[Difference]:
    for key in sorted(wanted.keys() | there.keys()):
        if wanted.get(key) != there.get(key):
            part = " ".join(key).strip()
            yield Difference(shard, schema, table, part, wanted.get(key), there.get(key))


def _head(parts: Parts | None) -> str | None:
    return None if parts is None else parts.get(("table", ""), "grants")
