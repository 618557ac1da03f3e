"""How many connections each entry gets, and what that asks of the operating system: pure.

A server's connections are shared by all PgBouncers, and by what connects directly. An entry's cap
is ``max_db_connections``: it holds over all users of the entry, also the one that asks for
verifiers. Each step is kept with its numbers, so that ``--explain`` shows where a figure is from.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from tenantry_ops.bouncer.connstr import parse_pairs
from tenantry_ops.bouncer.ini import DATABASES, MAIN
from tenantry_schema.errors import InvalidConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tenantry_ops.bouncer.ini import Ini
    from tenantry_ops.bouncer.nodes import NodeFacts
    from tenantry_ops.bouncer.settings import BouncerSettings

#: What the entry of a primary's own name gets: it is there so that names survive a switchover.
SPARE = 2
#: The least that serves: one for routed work, one to ask for a verifier meanwhile.
LEAST = 2
#: The least number of clients, and room for consoles and checks.
LEAST_CLIENTS = 100
#: Descriptors for listening, logs, pipes, name resolution.
OWN_FDS = 110


class Step(NamedTuple):
    """One line of the arithmetic."""

    what: str
    how: str
    value: int


@dataclass(frozen=True, slots=True)
class Sizes:
    """What the arithmetic came to.

    :ivar caps: (node, whether it is the entry of its shard) -> connections
    :ivar clients: ``max_client_conn``
    :ivar fds: file descriptors that PgBouncer may need
    """

    caps: dict[tuple[str, bool], int]
    clients: int
    fds: int
    steps: tuple[Step, ...]


def size(nodes: Sequence[NodeFacts], settings: BouncerSettings, seen_routers: int) -> Sizes:
    """Share out the connections of all servers.

    :param seen_routers: how many routers the catalog has seen
    :raises InvalidConfig: when a server has too few connections to share
    """
    steps: list[Step] = []
    caps: dict[tuple[str, bool], int] = {}
    databases = Counter((it.host, it.port) for it in nodes)
    for node in nodes:
        part = _part(node, settings, databases[node.host, node.port], steps)
        if node.primary:
            caps[node.name, True] = part - SPARE
            caps[node.name, False] = SPARE
            steps.append(Step(f"entry of shard {node.shard}", f"{part} - {SPARE}", part - SPARE))
        else:
            caps[node.name, False] = part
    clients = _clients(nodes, settings, seen_routers, steps)
    # As PgBouncer itself reckons: every entry's pool for every user that it knows.
    users = len(settings.users) + 2
    pools = sum(caps.values()) * users
    fds = clients + pools + OWN_FDS
    how = f"{clients} clients + {sum(caps.values())} connections x {users} users + {OWN_FDS} own"
    steps.append(Step("file descriptors (LimitNOFILE)", how, fds))
    return Sizes(caps, clients, fds, tuple(steps))


def needed_fds(ini: Ini, users: int) -> int:
    """Return how many file descriptors a configuration may need, as PgBouncer reckons at its start.

    :param users: how many users its ``userlist.txt`` has
    """
    main = ini.section(MAIN)
    pools = 0
    for value in ini.section(DATABASES).values():
        pool = int(parse_pairs(value).get("pool_size", main.get("default_pool_size", "20")))
        pools += pool * users
    return int(main.get("max_client_conn", "100")) + pools + OWN_FDS


def _part(node: NodeFacts, settings: BouncerSettings, databases: int, steps: list[Step]) -> int:
    kept = node.reserved + settings.kept_direct
    usable = node.max_connections - kept
    how = (
        f"max_connections {node.max_connections} - {node.reserved} reserved - "
        f"{settings.kept_direct} kept direct"
    )
    if node.limit is not None and node.limit < usable:
        usable, how = node.limit, f"{how}, at most {node.limit} by role or database"
    steps.append(Step(f"{node.name}: usable", how, usable))
    shares = settings.poolers * databases
    part = usable // shares
    how = f"{usable} / {settings.poolers} poolers / {databases} databases"
    least = LEAST + (SPARE if node.primary else 0)
    if settings.cores is not None:
        busy = max(least, math.ceil(settings.cores * settings.per_core / shares))
        how = f"min({how}, {settings.cores} cores x {settings.per_core} / {shares})"
        part = min(part, busy)
    if part < least:
        raise InvalidConfig(
            f"node {node.name}: {how} leaves {part} connections, and an entry needs {least}: raise "
            "max_connections, or lower poolers= or kept_direct="
        )
    steps.append(Step(f"{node.name}: connections from here", how, part))
    return part


def _clients(
    nodes: Sequence[NodeFacts], settings: BouncerSettings, seen: int, steps: list[Step]
) -> int:
    routers = settings.routers or max(1, seen)
    shards = sum(it.primary for it in nodes)
    entries = shards + sum(not it.primary for it in nodes)
    # A deployment runs old and new routers side by side.
    wanted = routers * settings.router_pool_size * entries * 2
    clients = max(LEAST_CLIENTS, wanted)
    source = "given" if settings.routers else "seen in the catalog"
    how = (
        f"max({LEAST_CLIENTS}, {routers} routers {source} x pool_size {settings.router_pool_size} "
        f"x {entries} entries x 2 during a deployment)"
    )
    steps.append(Step("max_client_conn", how, clients))
    return clients
