"""What a schema is made of, in words that are the same for every bucket: pure.

A bucket's name, its number and the names of its time partitions are replaced, so that two buckets
which are alike have equal structures.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from tenantry_schema.naming import BUCKET_COLUMN

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: What stands for a bucket's schema, and for one of its time partitions.
BUCKET, PARTITION = "{bucket}", "{partition}"

_NONE: Mapping[str, str] = MappingProxyType({})

#: What a table is made of: (kind, name) -> definition.
Parts = dict[tuple[str, str], str]


@dataclass(frozen=True, slots=True)
class Fact:
    """One row of ``structure.sql``.

    :ivar by_time: whether the table is a time partition of ``parent`` in the same schema
    """

    schema: str
    table: str
    parent: str | None
    by_time: bool
    kind: str
    name: str
    definition: str


@dataclass(slots=True)
class Structure:
    """What one schema is made of.

    :ivar tables: table -> its parts; the schema's own grants under the empty name
    :ivar partitions: time partition -> (the table it belongs to, its parts)
    """

    tables: dict[str, Parts] = field(default_factory=lambda: defaultdict(dict))
    partitions: dict[str, tuple[str, Parts]] = field(default_factory=dict)


def structures(
    facts: Iterable[Fact], numbers: Mapping[str, int], stand_ins: Mapping[str, str] = _NONE
) -> dict[str, Structure]:
    """Return the structure of every schema.

    :param numbers: the bucket's number of each schema that is a bucket
    :param stand_ins: schemas that others refer to -> the schema that each stands in for
    """
    found: dict[str, Structure] = defaultdict(Structure)
    for fact in facts:
        structure = found[fact.schema]
        text = _same_words(fact, numbers.get(fact.schema), stand_ins)
        if fact.by_time and fact.parent is not None:
            _, parts = structure.partitions.setdefault(fact.table, (fact.parent, {}))
            name, text = _of_partition(fact, text)
            parts[fact.kind, name] = text
        else:
            structure.tables[fact.table][fact.kind, fact.name] = text
    return found


def _same_words(fact: Fact, number: int | None, stand_ins: Mapping[str, str]) -> str:
    text = re.sub(rf"\b{re.escape(fact.schema)}\.", f"{BUCKET}.", fact.definition)
    for schema, real in stand_ins.items():
        text = re.sub(rf"\b{re.escape(schema)}\.", f"{real}.", text)
    if number is None:
        return text
    if fact.kind == "table":
        text = re.sub(rf"FOR VALUES IN \('?{number}'?\)", "FOR VALUES IN ({number})", text)
    if fact.kind == "column" and fact.name == BUCKET_COLUMN:
        text = re.sub(rf"DEFAULT {number}\b", "DEFAULT {number}", text)
    return text


def _of_partition(fact: Fact, text: str) -> tuple[str, str]:
    """Return the name and the definition of a time partition's part."""
    if fact.kind == "index":
        # Its name may be Postgres's own choice: what it does is what counts.
        text = text.replace(f"INDEX {fact.name} ON", "INDEX ON", 1).replace(fact.table, PARTITION)
        return text, text
    return fact.name.replace(fact.table, PARTITION), text.replace(fact.table, PARTITION)
