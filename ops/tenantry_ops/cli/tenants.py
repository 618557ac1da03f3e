"""``tenantry tenants``: create, list and find tenants."""

from __future__ import annotations

from typing import Annotated

import typer

from tenantry_ops import tenants as directory_of
from tenantry_ops.cli.output import AsJson, Catalog, Directory, catalog_of, print_rows

app = typer.Typer(help="Create, list and find tenants.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Name or key of the tenant.")]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="1 to 63 of a-z, 0-9, '-' and '_'.")],
    key: Annotated[str | None, typer.Option(help="Its key; default a new UUID.")] = None,
    catalog: Catalog = None,
    directory: Directory = None,
    as_json: AsJson = False,
) -> None:
    """Create a tenant: in the catalog's directory, then in its bucket."""
    made = directory_of.create(catalog_of(catalog, directory), name, key)
    print_rows([made], as_json=as_json)


@app.command("list")
def list_(
    after: Annotated[str, typer.Option(help="Begin behind this name.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 100,
    catalog: Catalog = None,
    directory: Directory = None,
    as_json: AsJson = False,
) -> None:
    """List tenants by name."""
    found = directory_of.page(catalog_of(catalog, directory), after=after, limit=limit)
    print_rows(found, as_json=as_json)


@app.command()
def show(
    name: Name, catalog: Catalog = None, directory: Directory = None, as_json: AsJson = False
) -> None:
    """Show a tenant."""
    print_rows([directory_of.show(catalog_of(catalog, directory), name)], as_json=as_json)


@app.command()
def where(
    name: Name, catalog: Catalog = None, directory: Directory = None, as_json: AsJson = False
) -> None:
    """Say in which bucket, and on which shard, a tenant lives."""
    print_rows([directory_of.where(catalog_of(catalog, directory), name)], as_json=as_json)
