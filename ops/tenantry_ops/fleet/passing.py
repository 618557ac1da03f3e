"""A fleet for one command: made in a folder, and gone with the command, however that ends."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tenantry_ops.fleet.fleet import Fleet
from tenantry_schema.errors import InvalidConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tenantry_ops.interrupts import Interrupts
    from tenantry_ops.steps import Step

#: The pooler that a user's routers go through: it leads to other servers.
_POOLER = "TENANTRY_POOLER"


@contextmanager
def passing_fleet(
    directory: Path | None, interrupts: Interrupts, step: Step, *, keep: bool = False
) -> Iterator[Fleet]:
    """Give a running fleet; stop and remove it at the end, which nothing interrupts.

    Its routers, also those of processes that are made meanwhile, go through no pooler.

    :param directory: empty or not there yet, or None for a temporary folder
    :param keep: leave the fleet as it is, running
    :raises InvalidConfig: for a folder that is in use
    """
    made = directory is None or not directory.exists()
    place = _folder(directory)
    fleet: Fleet | None = None
    pooler = os.environ.pop(_POOLER, None)
    try:
        fleet = Fleet.up(place, tied=not keep, progress=lambda phase: step(phase, 0, 1))
        yield fleet
    finally:
        interrupts.shield()
        if pooler is not None:
            os.environ[_POOLER] = pooler
        if not keep:
            _remove(place, fleet, made=made)


def _folder(given: Path | None) -> Path:
    if given is None:
        return Path(tempfile.mkdtemp(prefix="tenantry-"))
    if given.exists() and (not given.is_dir() or any(given.iterdir())):
        raise InvalidConfig(
            f"{given} is not an empty folder: name another one with --dir; a fleet in it is "
            "removed with `tenantry fleet down --remove`"
        )
    return given.absolute()


def _remove(place: Path, fleet: Fleet | None, *, made: bool) -> None:
    if fleet is not None:
        # Who started the servers waits for their end; what was found by its folder only signals.
        fleet.down()
    if (place / "fleet.toml").exists():
        Fleet.load(place).discard()
    if made:
        shutil.rmtree(place, ignore_errors=True)
