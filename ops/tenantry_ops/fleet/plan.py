"""What a new fleet is to be: its servers' names, and ports that are free now."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from tenantry_ops.fleet.build import PROFILES
from tenantry_ops.fleet.state import FleetState, ServerState, ShardState
from tenantry_schema.errors import InvalidConfig

if TYPE_CHECKING:
    from pathlib import Path

    from tenantry_ops.fleet.programs import Programs


def check_numbers(shards: int, replicas: int, profile: str) -> None:
    """Refuse a fleet that cannot be.

    :raises InvalidConfig: naming the value and what is allowed
    """
    if not 1 <= shards <= 64 or not 0 <= replicas <= 8:
        raise InvalidConfig(
            f"an embedded fleet has 1 to 64 shards of 0 to 8 replicas, not {shards} of {replicas}"
        )
    if profile not in PROFILES:
        raise InvalidConfig(f"profile {profile!r:.40} is not one of {', '.join(PROFILES)}")


def plan_fleet(
    directory: Path, programs: Programs, shards: int, replicas: int, profile: str
) -> FleetState:
    """Return the description of a fleet that is not made yet."""
    ports = iter(free_ports(shards * (1 + replicas)))
    made = []
    for number in range(1, shards + 1):
        name = f"shard-{number}"
        copies = [ServerState(f"{name}-{chr(98 + it)}", next(ports)) for it in range(replicas)]
        made.append(ShardState(name, ServerState(f"{name}-a", next(ports)), tuple(copies)))
    return FleetState(
        programs=str(programs.folder),
        version=programs.version,
        source=programs.source,
        profile=profile,
        sockets=str(directory / "sockets-not-made"),
        complete=False,
        shards=tuple(made),
    )


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback that are free now."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(it.getsockname()[1]) for it in held]
    for it in held:
        it.close()
    return ports
