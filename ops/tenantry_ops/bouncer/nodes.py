"""What is known of the servers behind a PgBouncer: pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """One node as its server tells it.

    :ivar reserved: connections that only superusers and the like may take
    :ivar limit: the most that the roles or the database may have, or None
    :ivar answers: False when the numbers are those of its shard's primary
    """

    shard: str
    name: str
    host: str
    port: int
    dbname: str
    primary: bool
    max_connections: int
    reserved: int
    limit: int | None = None
    answers: bool = True


@dataclass(frozen=True, slots=True)
class Facts:
    """Every node of every shard, and how many routers were seen."""

    nodes: tuple[NodeFacts, ...]
    routers: int = 0
