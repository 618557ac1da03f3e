"""``tenantry``: the commands, and what an error looks like to a person.

Exit codes: 0 for success, 1 when a command found or met a problem, 2 for a call that cannot be.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Annotated

import typer
from rich.markup import escape

from tenantry_ops.cli import agents, demo, doctor, fleet, init, maps, migrate, tenants
from tenantry_ops.cli.output import errors
from tenantry_schema.errors import InvalidInput, TenantryError

app = typer.Typer(
    name="tenantry",
    help="Route a multi-tenant service's work over ordinary Postgres.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(fleet.app, name="fleet")
app.add_typer(tenants.app, name="tenants")
app.add_typer(agents.app, name="agents")
app.add_typer(maps.app, name="map")
app.command()(init.init)
app.command()(migrate.migrate)
app.command()(doctor.doctor)
app.command()(demo.demo)


@app.callback(invoke_without_command=True)
def _root(
    *,
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.")
    ] = False,
) -> None:
    if show_version:
        typer.echo(f"tenantry {version('tenantry')}")
        raise typer.Exit


def main() -> None:
    """Run the command line; print what tenantry refuses or misses as one message."""
    try:
        app()
    except TenantryError as error:
        errors.print(f"[bold red]{type(error).__name__}[/]: {escape(str(error))}", soft_wrap=True)
        sys.exit(2 if isinstance(error, InvalidInput) else 1)
