"""``tenantry schema``: compare the structure of every bucket, and write revisions."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from tenantry_ops.cli.output import (
    AsJson,
    Catalog,
    Directory,
    catalog_of,
    console,
    errors,
    print_json,
    print_rows,
)
from tenantry_ops.migrate.revision import write_fleet_revision
from tenantry_ops.structure import schema_diff

app = typer.Typer(
    help="Compare the structure of every bucket, and write revisions.", no_args_is_help=True
)


@app.command()
def diff(catalog: Catalog = None, directory: Directory = None, as_json: AsJson = False) -> None:
    """Compare every bucket on every shard with the models; exit with 1 when something differs."""
    found = schema_diff(
        catalog_of(catalog, directory), progress=lambda name: errors.print(f"[dim]{name}[/]")
    )
    if found or as_json:
        print_rows((asdict(it) for it in found), as_json=as_json, title="What differs")
    else:
        console.print("every bucket on every shard is as the models say")
    if found:
        raise typer.Exit(1)


@app.command()
def revision(
    message: Annotated[str, typer.Argument(help="What the change is for.")],
    catalog: Catalog = None,
    directory: Directory = None,
    empty: Annotated[bool, typer.Option(help="Leave the body to you.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a revision of your own models: what differs between them and the parents."""
    written = write_fleet_revision(catalog_of(catalog, directory), message, empty=empty)
    if as_json:
        print_json({"path": written})
    else:
        console.print(f"written: {written}", soft_wrap=True)
