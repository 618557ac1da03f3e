"""What an init is to make: checked before anything is touched."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tenantry.map import Node, Shard
from tenantry_schema.errors import InvalidConfig
from tenantry_schema.naming import OPERATOR, SHARD_DATABASE

if TYPE_CHECKING:
    from tenantry_ops.fleet import Fleet

MOST_BUCKETS = 65_536

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}\Z")


@dataclass(frozen=True, slots=True)
class InitPlan:
    """A fleet to be made.

    :ivar catalog: conninfo of the catalog's database as ``tenantry_operator``
    :ivar shards: in the order in which buckets are dealt to them
    :ivar buckets: how many equal ranges the hash space is cut into; powers of two are advised
    :ivar models: ``module:attribute`` of a service's MetaData, or None for the shipped tables
    :raises InvalidConfig: naming the value and what is allowed
    """

    catalog: str
    shards: tuple[Shard, ...]
    buckets: int = 64
    models: str | None = None

    def __post_init__(self) -> None:
        given: object = self.buckets
        if isinstance(given, bool) or not isinstance(given, int):
            raise InvalidConfig(f"buckets must be a number, not {given!r:.40}")
        if not 1 <= self.buckets <= MOST_BUCKETS:
            raise InvalidConfig(
                f"a fleet has 1 to {MOST_BUCKETS:,} buckets, not {self.buckets:,}; powers of two "
                "are advised, because they nest in the shards of Citus"
            )
        if not self.shards:
            raise InvalidConfig("a fleet has at least one shard: name it with --shard")
        names = [shard.name for shard in self.shards]
        for name in names:
            if not _NAME.match(name):
                raise InvalidConfig(
                    f"a shard's name is 1 to 63 of a-z, 0-9, '-' and '_', not {name!r:.80}"
                )
        if len(set(names)) != len(names):
            raise InvalidConfig(f"two shards have one name: {', '.join(sorted(names))}")

    @property
    def placement(self) -> list[int]:
        """The shard's id of each bucket: dealt round."""
        return [self.shards[it % len(self.shards)].id for it in range(self.buckets)]


def embedded_plan(fleet: Fleet, *, buckets: int, models: str | None = None) -> InitPlan:
    """Return the plan for an embedded fleet."""
    shards = tuple(
        Shard(
            number,
            shard.name,
            tuple(Node(it.name, it.host, it.port, SHARD_DATABASE) for it in shard.servers),
        )
        for number, shard in enumerate(fleet.shards, start=1)
    )
    return InitPlan(fleet.catalog_conninfo(OPERATOR), shards, buckets, models)
