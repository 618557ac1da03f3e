"""``tenantry fleet``: an embedded fleet that stays up between commands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from tenantry_ops.cli.output import (
    DEFAULT_DIRECTORY,
    AsJson,
    Directory,
    errors,
    print_json,
    print_rows,
)
from tenantry_ops.fleet import Fleet, default_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from tenantry_ops.bouncer.embedded import Embedded

app = typer.Typer(help="Run real Postgres servers without installing any.", no_args_is_help=True)


@app.command()
def up(
    directory: Directory = None,
    shards: Annotated[int, typer.Option(help="Shards of a new fleet.")] = 2,
    replicas: Annotated[int, typer.Option(help="Replicas of each shard.")] = 1,
    profile: Annotated[str, typer.Option(help="fast or durable.")] = "fast",
    pg_bin: Annotated[
        Path | None, typer.Option(help="Folder of server programs, or embedded for the wheel's.")
    ] = None,
    bouncer: Annotated[
        bool, typer.Option("--bouncer", help="Start the installed PgBouncer before it.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Start a fleet, or what of it does not run."""
    tell = _telling()
    fleet = Fleet.up(
        directory or default_folder(tell),
        shards=shards,
        replicas=replicas,
        profile=profile,
        pg_bin=pg_bin,
        tied=False,
        progress=tell,
    )
    if bouncer:
        _bouncer(fleet).up(tied=False)
    print_rows(_rows(fleet), as_json=as_json)


@app.command()
def status(directory: Directory = None, as_json: AsJson = False) -> None:
    """Ask every server who it is; exit with 1 when one does not answer."""
    found = _rows(Fleet.load(directory or DEFAULT_DIRECTORY))
    print_rows(found, as_json=as_json)
    if any(row["role"] in {"down", "not answering"} for row in found):
        raise typer.Exit(1)


@app.command()
def down(
    directory: Directory = None,
    remove: Annotated[bool, typer.Option("--remove", help="Remove the data as well.")] = False,
    as_json: AsJson = False,
) -> None:
    """Stop every server of a fleet."""
    fleet = Fleet.load(directory or DEFAULT_DIRECTORY)
    if _has_bouncer(fleet):
        bouncer = _bouncer(fleet)
        (bouncer.discard if remove else bouncer.down)()
    stopped = fleet.discard() if remove else fleet.down()
    if as_json:
        print_json({"stopped": stopped, "removed": remove})
    else:
        errors.print(f"[dim]stopped {', '.join(stopped) or 'nothing: no server was running'}[/]")


def _telling() -> Callable[[str], None]:
    """Return what prints a message, unless it is the last one once more."""
    last = ""

    def tell(message: str) -> None:
        nonlocal last
        if message != last:
            errors.print(f"[dim]{escape(message)}[/]", highlight=False, soft_wrap=True)
        last = message

    return tell


def _rows(fleet: Fleet) -> list[dict[str, Any]]:
    return [*fleet.status(), *([_bouncer(fleet).status()] if _has_bouncer(fleet) else [])]


def _has_bouncer(fleet: Fleet) -> bool:
    return (fleet.directory / "bouncer").exists()


def _bouncer(fleet: Fleet) -> Embedded:
    # It brings the settings' validation with it, which a fleet without one need not wait for.
    from tenantry_ops.bouncer.embedded import Embedded  # noqa: PLC0415

    return Embedded.of(fleet)
