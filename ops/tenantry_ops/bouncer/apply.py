"""Bring a PgBouncer to what is wanted: checked, compared, in place, read back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tenantry_ops.bouncer.change import Plan, decide
from tenantry_ops.bouncer.diff import Effect, entry_effects
from tenantry_ops.bouncer.files import locked, put_files
from tenantry_ops.bouncer.inspection import problems
from tenantry_ops.bouncer.lying import read_ini, read_lying
from tenantry_ops.bouncer.pause import paused
from tenantry_ops.bouncer.place import put_in_force, read_back
from tenantry_ops.bouncer.render import HBA
from tenantry_schema.errors import InvalidConfig

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tenantry_ops.bouncer.console import Console
    from tenantry_ops.bouncer.merge import Edited
    from tenantry_ops.bouncer.pooler import Pooler
    from tenantry_ops.bouncer.readback import Mismatch, Row
    from tenantry_ops.bouncer.render import Rendering


@dataclass(frozen=True, slots=True)
class Patience:
    """How long clients may be held back for entries that lead elsewhere, in seconds."""

    deadline: float = 5.0
    lease: float = 30.0


def plan_for(
    directory: Path, rendering: Rendering, policy: Edited, passfile: bytes | None = None
) -> Plan:
    """Decide what to put in a folder, and check it.

    :raises InvalidConfig: when something was changed by hand and is to be refused, or PgBouncer
        would misread what would be put in place
    """
    plan = decide(read_lying(directory), rendering, policy, passfile)
    found = problems(plan.ini, plan.files[HBA].decode(), plan.version)
    if found:
        listed = "; ".join(f"{it.where}: {it.problem}" for it in found)
        raise InvalidConfig(f"PgBouncer would misread what was to be written ({listed})")
    return plan


def write(directory: Path, plan: Plan) -> None:
    """Put the files of a PgBouncer that does not run yet in place."""
    with locked(directory):
        put_files(directory, plan.files)


def running(pooler: Pooler) -> list[Mismatch]:
    """Return where a PgBouncer runs otherwise than the file in its folder says.

    :raises BouncerError: when it does not answer
    """
    if pooler.directory is None:
        raise InvalidConfig("what runs is compared on the machine where PgBouncer's files lie")
    with pooler.open() as console:
        return read_back(console, read_ini(pooler.directory))


def apply_plan(
    pooler: Pooler, plan: Plan, *, patience: Patience | None = None, disconnect: bool = False
) -> list[Mismatch]:
    """Bring a plan into force; return what waits for a restart.

    :param patience: for entries that lead elsewhere, whose clients are held back meanwhile
    :param disconnect: whether entries may go whose clients are connected
    :raises InvalidConfig: before anything is changed, when a change would crash PgBouncer or
        disconnect clients
    :raises BouncerError: when PgBouncer does not run as it should; the former files are back then
    """
    directory = pooler.directory
    if directory is None:
        raise InvalidConfig("a plan is applied on the machine where PgBouncer's files lie")
    with locked(directory), pooler.open() as console:
        if console.version != plan.version:
            raise InvalidConfig(
                f"PgBouncer {console.version} runs at {console.where}, and the files are for "
                f"{plan.version}: leave version= away, or restart the one that is installed"
            )
        effects = entry_effects(console.show("DATABASES"), plan.ini, plan.version)
        _refuse(console, effects, disconnect=disconnect)
        moving = [it for it, effect in effects.items() if effect is Effect.PAUSE]
        if not moving:
            return put_in_force(console, directory, plan.files, plan.ini)
        wait = patience or Patience()
        with paused([pooler], moving, deadline=wait.deadline, lease=wait.lease) as window:
            window.put(pooler, plan.files, plan.ini)
        return window.waiting


def _refuse(console: Console, effects: Mapping[str, Effect], *, disconnect: bool) -> None:
    crashing = [it for it, effect in effects.items() if effect is Effect.CRASH]
    if crashing:
        raise InvalidConfig(
            f"user= on the existing entries {', '.join(crashing)} crashes PgBouncer "
            f"{console.version} at RELOAD: give it in an entry of another name, restart PgBouncer "
            "with it, or upgrade to 1.23.1; nothing was changed"
        )
    going = {it for it, effect in effects.items() if effect is Effect.DISCONNECT}
    used = sorted(going & _connected(console.show("POOLS")))
    if used and not disconnect:
        raise InvalidConfig(
            f"entries {', '.join(used)} would go, and clients that are connected to them get an "
            "error: nothing was changed; say --disconnect if that is meant"
        )


def _connected(pools: list[Row]) -> set[str]:
    return {row["database"] for row in pools if row["cl_active"] or row["cl_waiting"]}
