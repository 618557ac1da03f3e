"""What differs between what is there and what should be: pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tenantry_ops.structure.facts import Parts, Structure


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is missing, unexpected or different.

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
