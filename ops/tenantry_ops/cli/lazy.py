"""A group that knows its commands by name and imports only the one that is called.

``tenantry --help`` must not pay for SQLAlchemy, Alembic and the drivers.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group

# typer carries click inside itself from 0.17 on and asks for it beside before: the command and the
# context are of whichever it has.
Context = Any
Command = Any


class Lazy(NamedTuple):
    """A command: the module that has it, its name there, and its line in the list."""

    module: str
    attribute: str
    summary: str


COMMANDS: dict[str, Lazy] = {
    "demo": Lazy(
        "tenantry_ops.cli.demo",
        "demo",
        "Start two shards, run real work on them, kill workers, and prove that all was right.",
    ),
    "fleet": Lazy(
        "tenantry_ops.cli.fleet", "app", "Run real Postgres servers without installing any."
    ),
    "init": Lazy(
        "tenantry_ops.cli.init",
        "init",
        "Create the catalog, migrate every shard and lay out the buckets.",
    ),
    "migrate": Lazy(
        "tenantry_ops.cli.migrate",
        "migrate",
        "Upgrade the catalog, then one shard, then the others; running again resumes.",
    ),
    "schema": Lazy(
        "tenantry_ops.cli.schema",
        "app",
        "Compare the structure of every bucket, and write revisions.",
    ),
    "shard": Lazy(
        "tenantry_ops.cli.shard",
        "app",
        "Show and change which node of a shard is its primary.",
    ),
    "partitions": Lazy(
        "tenantry_ops.cli.partitions",
        "app",
        "Make time partitions ahead, and retire old ones, at nobody's expense.",
    ),
    "partman": Lazy(
        "tenantry_ops.cli.partitions.partman", "app", "Find what pg_partman does not say."
    ),
    "doctor": Lazy(
        "tenantry_ops.cli.doctor",
        "doctor",
        "Check nodes, placement, isolation and schema; exit with 1 when something is wrong.",
    ),
    "tenants": Lazy("tenantry_ops.cli.tenants", "app", "Create, list and find tenants."),
    "agents": Lazy("tenantry_ops.cli.agents", "app", "Mint agent ids, and say where they lead."),
    "bouncer": Lazy(
        "tenantry_ops.cli.bouncer",
        "app",
        "Write, check and steer the PgBouncers in front of a fleet.",
    ),
    "map": Lazy(
        "tenantry_ops.cli.maps", "app", "Show where buckets are placed, and tell the shards."
    ),
    "load": Lazy(
        "tenantry_ops.cli.load",
        "app",
        "Drive routed load, and check that every acknowledged write is there once.",
    ),
}


class LazyGroup(TyperGroup):
    """The root of the command line."""

    def list_commands(self, ctx: Context) -> list[str]:  # noqa: ARG002  click's signature
        """Return the names in the order in which a new user needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:  # noqa: ARG002
        """Return what the list of commands shows of one."""
        found = COMMANDS.get(cmd_name)
        return None if found is None else TyperCommand(cmd_name, help=found.summary)

    def resolve_command(
        self, ctx: Context, args: list[str]
    ) -> tuple[str | None, Command | None, list[str]]:
        """Import the command that is called."""
        name, _, rest = super().resolve_command(ctx, args)
        return name, None if name is None else load(name), rest


def load(name: str) -> Command:
    """Import a command by its name."""
    found = COMMANDS[name]
    target = getattr(import_module(found.module), found.attribute)
    holder = typer.Typer(add_completion=False)
    if isinstance(target, typer.Typer):
        holder.add_typer(target, name=name)
    else:
        holder.command(name)(target)
    command: Command = get_group(holder).commands[name]
    return command
