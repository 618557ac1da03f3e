"""``tenantry doctor``: say what is wrong with a fleet, and what to do next."""

from __future__ import annotations

from dataclasses import asdict

import typer

from tenantry_ops.cli.output import AsJson, Catalog, Directory, catalog_of, console, print_rows
from tenantry_ops.doctor import Finding, examine, gather_facts
from tenantry_ops.failover.survival import survives
from tenantry_schema.errors import InvalidConfig


def doctor(catalog: Catalog = None, directory: Directory = None, as_json: AsJson = False) -> None:
    """Check nodes, placement, isolation and schema; exit with 1 when something is wrong."""
    where = catalog_of(catalog, directory)
    try:
        facts = gather_facts(where)
    except InvalidConfig as error:
        # The options were fine: what cannot be used is what the catalog holds.
        _print([Finding("map", str(error), "mend tenantry.buckets in the catalog")], as_json)
        raise typer.Exit(1) from error
    findings = examine(facts)
    if findings or as_json:
        _print(findings, as_json)
    else:
        console.print(
            f"healthy: {len(facts.nodes)} nodes, {len(facts.map)} buckets on "
            f"{len(facts.map.shards)} shards, map version {facts.map.version}"
        )
    if not as_json:
        for shard in facts.standings:
            console.print(
                f"a commit that {shard.name} acknowledges survives: {survives(shard)}",
                highlight=False,
                soft_wrap=True,
            )
    if findings:
        raise typer.Exit(1)


def _print(findings: list[Finding], as_json: bool) -> None:
    print_rows((asdict(it) for it in findings), as_json=as_json, title="What is wrong")
