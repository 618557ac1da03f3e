"""An embedded fleet: real Postgres servers, as children, from nothing but a wheel."""

from __future__ import annotations

from tenantry_ops.fleet.fleet import Fleet
from tenantry_ops.fleet.passing import passing_fleet
from tenantry_ops.fleet.place import DEFAULT_DIRECTORY, default_folder
from tenantry_ops.fleet.programs import Programs, find_programs
from tenantry_ops.fleet.state import FleetState, ServerState, ShardState

__all__ = [
    "DEFAULT_DIRECTORY",
    "Fleet",
    "FleetState",
    "Programs",
    "ServerState",
    "ShardState",
    "default_folder",
    "find_programs",
    "passing_fleet",
]
