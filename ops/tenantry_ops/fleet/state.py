"""What is known of a fleet between commands: one TOML file, without a secret in it."""

from __future__ import annotations

import fcntl
import os
import tomllib
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import tomli_w

from tenantry_schema.errors import FleetError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILE = "fleet.toml"


@dataclass(frozen=True, slots=True)
class ServerState:
    """One server: its folder is ``servers/<name>``."""

    name: str
    port: int


@dataclass(frozen=True, slots=True)
class ShardState:
    """One shard: its primary as it was made, and its replicas."""

    name: str
    primary: ServerState
    replicas: tuple[ServerState, ...]

    @property
    def servers(self) -> tuple[ServerState, ...]:
        """All servers of the shard."""
        return (self.primary, *self.replicas)


@dataclass(frozen=True, slots=True)
class FleetState:
    """A fleet's description.

    :ivar complete: False until every server was made; an incomplete fleet is made anew
    :ivar sockets: the folder of the unix sockets, short because paths end at 107 bytes
    """

    programs: str
    version: str
    source: str
    profile: str
    sockets: str
    complete: bool
    shards: tuple[ShardState, ...]

    def save(self, directory: Path) -> None:
        """Write the file, all or nothing."""
        draft = directory / f"{FILE}.new"
        draft.write_bytes(tomli_w.dumps(asdict(self)).encode())
        draft.replace(directory / FILE)

    @classmethod
    def load(cls, directory: Path) -> FleetState | None:
        """Read the file, or None when the folder has none.

        :raises FleetError: when the file is not one of ours
        """
        path = directory / FILE
        if not path.exists():
            return None
        try:
            found = tomllib.loads(path.read_text(encoding="utf-8"))
            return cls(**{**found, "shards": tuple(_shard(it) for it in found["shards"])})
        except (ValueError, KeyError, TypeError) as error:
            raise FleetError(
                f"{path} is not a fleet's description ({type(error).__name__}: {error}): put back "
                f"what it was, or end the servers that {directory}/servers/*/postmaster.pid name, "
                f"and remove {directory}"
            ) from error


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Wait until no other process starts or stops the folder's fleet, and hold the others off."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _shard(found: dict[str, Any]) -> ShardState:
    return ShardState(
        found["name"],
        ServerState(**found["primary"]),
        tuple(ServerState(**it) for it in found["replicas"]),
    )
