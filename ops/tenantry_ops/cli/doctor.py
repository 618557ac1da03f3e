"""``tenantry doctor``: say what is wrong with a fleet, and what to do next."""

from __future__ import annotations

from dataclasses import asdict

import typer

from tenantry_ops.cli.output import AsJson, Catalog, Directory, catalog_of, console, print_rows
from tenantry_ops.doctor import examine, gather_facts


def doctor(catalog: Catalog = None, directory: Directory = None, as_json: AsJson = False) -> None:
    """Check nodes, placement, isolation and schema; exit with 1 when something is wrong."""
    facts = gather_facts(catalog_of(catalog, directory))
    findings = examine(facts)
    if findings or as_json:
        print_rows((asdict(it) for it in findings), as_json=as_json, title="What is wrong")
    else:
        console.print(
            f"healthy: {len(facts.nodes)} nodes, {len(facts.map)} buckets on "
            f"{len(facts.map.shards)} shards, map version {facts.map.version}"
        )
    if findings:
        raise typer.Exit(1)
