"""``tenantry partitions plan``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import typer

from tenantry_ops.cli.output import AsJson, Catalog, Directory, console, print_json, print_rows
from tenantry_ops.cli.partitions.options import (
    ArchiveTo,
    Buckets,
    Dsn,
    Jobs,
    Shards,
    Tables,
    places_of,
)
from tenantry_ops.partitions import DatabasePlan, plan_all
from tenantry_partitions.budget import Budget
from tenantry_partitions.planner import Plan

_DUE = 2


def plan(
    *,
    dsn: Dsn = None,
    catalog: Catalog = None,
    directory: Directory = None,
    table: Tables = None,
    shard: Shards = None,
    bucket: Buckets = None,
    jobs: Jobs = 4,
    archive: ArchiveTo = None,
    as_json: AsJson = False,
) -> None:
    """Print what is due and what is odd; exit with 2 when something is due or wrong."""
    places = places_of(dsn, catalog, directory, table, shard, bucket)
    found = plan_all(places, Budget(), jobs=jobs, archiving=archive is not None)
    if as_json:
        print_json([_plan_row(it) for it in found])
    else:
        _print_plans(found)
    if not all(it.clean for it in found):
        raise typer.Exit(_DUE)


def _plan_row(found: DatabasePlan) -> dict[str, Any]:
    tables = []
    for (schema, table), it in found.tables.items():
        row: dict[str, Any] = {"schema": schema, "table": table, "error": None}
        if isinstance(it, Plan):
            row |= {
                "ahead": it.ahead,
                "steps": [step.as_row() for step in it.steps],
                "findings": [asdict(finding) for finding in it.findings],
            }
        else:
            row["error"] = str(it)
        tables.append(row)
    return {"database": found.name, "error": found.error, "tables": tables}


def _print_plans(found: list[DatabasePlan]) -> None:
    steps, odd, seen = [], [], 0
    for database in found:
        if database.error is not None:
            odd.append(_odd(database.name, "unreachable", database.error, "", wrong=True))
        for (schema, table), it in database.tables.items():
            seen += 1
            name = f"{schema}.{table}"
            if not isinstance(it, Plan):
                odd.append(_odd(name, "unsuitable", str(it), "", wrong=True))
                continue
            steps += [{"table": name, **step.as_row()} for step in it.steps]
            odd += [
                _odd(name, finding.kind, finding.problem, finding.remedy, wrong=finding.wrong)
                for finding in it.findings
            ]
    if steps:
        print_rows(steps, as_json=False, title="What is due")
    if odd:
        print_rows(odd, as_json=False, title="What was found")
    if not steps and not any(it["wrong"] for it in odd):
        console.print(f"nothing is due for {seen} tables in {len(found)} databases")


def _odd(name: str, kind: str, problem: str, remedy: str, *, wrong: bool) -> dict[str, str]:
    return {
        "table": name,
        "found": kind,
        "problem": problem,
        "what to do": remedy,
        "wrong": "yes" if wrong else "",
    }
