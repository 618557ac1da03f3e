"""``tenantry demo``: see it work, on real servers and real input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from tenantry_ops.cli.output import AsJson, console, errors, print_json, print_rows
from tenantry_ops.cli.progress import shown_steps
from tenantry_ops.demo import DemoOptions, run_demo


def demo(
    *,
    directory: Annotated[
        Path | None, typer.Option("--dir", help="Folder for the fleet; default a temporary one.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the fleet, running.")] = False,
    graph: Annotated[
        str, typer.Option(help="installed, debian, or a JSON file {name: [needed, …]}.")
    ] = "installed",
    tenants: Annotated[int, typer.Option(help="How many tenants get the graph.")] = 20,
    buckets: Annotated[int, typer.Option(help="How many buckets.")] = 16,
    workers: Annotated[int, typer.Option(help="How many processes run the graph.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Start two shards, run real work on them, kill workers, and prove that all was right."""
    options = DemoOptions(directory, keep, graph, tenants, buckets, workers)
    with shown_steps() as step:
        try:
            summary = run_demo(options, step)
        except SystemExit:
            errors.print(
                "stopped; the fleet is kept" if keep else "stopped; nothing is left behind"
            )
            raise
    if as_json:
        print_json(summary)
    else:
        _print(summary)
    if keep:
        place = summary["directory"]
        errors.print(
            f"The fleet runs on. Look at it:\n  tenantry doctor --dir {place}\n"
            f"  tenantry tenants list --dir {place}\n  tenantry map show --dir {place}\n"
            f"Remove it:\n  tenantry fleet down --remove --dir {place}",
            soft_wrap=True,
        )


def _print(summary: dict[str, Any]) -> None:
    graph = summary["graph"]
    console.print(
        f"{graph['tasks']:,} tasks and {graph['edges']:,} edges ({graph['source']}; "
        f"{graph['circular']} more would close a circle), once for each "
        f"of {len(summary['tenants'])} tenants, on Postgres {summary['postgres']}, in "
        f"{summary['seconds']} s"
    )
    print_rows(summary["tenants"], as_json=False, title="Where each tenant lives")
    print_rows(summary["operations"], as_json=False, title="Operations")
    print_rows(summary["rows_per_shard"], as_json=False, title="Rows per shard")
    print_rows(summary["refused"], as_json=False, title="What Postgres refused")
    print_rows([summary["killed"]], as_json=False, title="Killed in the middle of its work")
    print_rows([_flat(summary["recovered"])], as_json=False, title="What the killed actor was told")
    print_rows([summary["proof"]], as_json=False, title="What the history of every task proves")


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    return {name: json.dumps(it) if isinstance(it, dict | list) else it for name, it in row.items()}
