"""``tenantry doctor``: say what is wrong with a fleet, and what to do next."""

from __future__ import annotations

from dataclasses import asdict

import typer

from tenantry_ops.cli.output import (
    AsJson,
    Catalog,
    Directory,
    catalog_of,
    console,
    print_json,
    print_rows,
)
from tenantry_ops.cluster import read_map
from tenantry_ops.doctor import Finding, FleetFacts, examine, gather_facts
from tenantry_ops.failover.survival import survives
from tenantry_schema.errors import InvalidConfig


def doctor(catalog: Catalog = None, directory: Directory = None, as_json: AsJson = False) -> None:
    """Check nodes, placement, isolation and schema; exit with 1 when something is wrong."""
    where = catalog_of(catalog, directory)
    facts = None
    try:
        held = read_map(where)
    except InvalidConfig as error:
        # The options were fine: what cannot be used is what the catalog holds.
        findings = [Finding("map", str(error), "mend tenantry.buckets in the catalog")]
    else:
        facts = gather_facts(where, held)
        findings = examine(facts)
    (_print_json if as_json else _print)(findings, facts)
    if findings:
        raise typer.Exit(1)


def _survive(facts: FleetFacts | None) -> list[dict[str, str]]:
    standings = () if facts is None else facts.standings
    return [{"shard": it.name, "survives": survives(it)} for it in standings]


def _print_json(findings: list[Finding], facts: FleetFacts | None) -> None:
    print_json({"findings": [asdict(it) for it in findings], "shards": _survive(facts)})


def _print(findings: list[Finding], facts: FleetFacts | None) -> None:
    if findings:
        print_rows((asdict(it) for it in findings), as_json=False, title="What is wrong")
    elif facts is not None:
        console.print(
            f"healthy: {len(facts.nodes)} nodes, {len(facts.map)} buckets on "
            f"{len(facts.map.shards)} shards, map version {facts.map.version}"
        )
    for it in _survive(facts):
        console.print(
            f"a commit that {it['shard']} acknowledges survives: {it['survives']}",
            highlight=False,
            soft_wrap=True,
        )
