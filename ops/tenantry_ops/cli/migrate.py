"""``tenantry migrate``: upgrade the catalog and all shards."""

from __future__ import annotations

from typing import Annotated

import typer

from tenantry_ops.cli.output import AsJson, Catalog, Directory, catalog_of, errors, print_rows
from tenantry_ops.migrate import migrate as migrate_fleet


def migrate(
    catalog: Catalog = None,
    directory: Directory = None,
    revision: Annotated[str, typer.Option(help="Where the shards' history is to go.")] = "heads",
    jobs: Annotated[int, typer.Option(min=1, help="Shards at once, after the canary.")] = 4,
    patience: Annotated[float, typer.Option(min=0, help="Seconds to try for a lock.")] = 30.0,
    as_json: AsJson = False,
) -> None:
    """Upgrade the catalog, then one shard, then the others; running again resumes."""
    reached = migrate_fleet(
        catalog_of(catalog, directory),
        revision=revision,
        jobs=jobs,
        patience=patience,
        progress=lambda name: errors.print(f"[dim]{name}[/]"),
    )
    rows = [{"database": name, "revision": ", ".join(found)} for name, found in reached.items()]
    print_rows(rows, as_json=as_json)
