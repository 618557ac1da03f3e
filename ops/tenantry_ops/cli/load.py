"""``tenantry load``: drive load over a fleet, and judge what it was told.

Only the process that drives the load imports Locust, which patches the standard library.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from tenantry_loadtest.plan import LoadOptions
from tenantry_loadtest.smoke import judge_record, run_smoke
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
from tenantry_ops.cli.progress import shown_steps
from tenantry_schema.errors import InvalidConfig

app = typer.Typer(
    help="Drive routed load, and check that every acknowledged write is there once.",
    no_args_is_help=True,
)

_SHOWN = 50

# Unlike other commands these take no fleet from the environment: load must be meant.
GivenCatalog = Annotated[
    str | None,
    typer.Option("--catalog", help="libpq conninfo of a fleet's catalog, as tenantry_operator."),
]
GivenDirectory = Annotated[
    Path | None, typer.Option("--dir", help="Folder of an embedded fleet that runs.")
]


@app.command()
def smoke(
    seconds: Annotated[float, typer.Option(help="How long users work.")] = 20.0,
    users: Annotated[int, typer.Option(help="How many users work at once.")] = 10,
    tenants: Annotated[int, typer.Option(help="How many tenants they work for.")] = 20,
    seed: Annotated[
        int | None, typer.Option(help="Do what a former run did; default a new one.")
    ] = None,
    directory: GivenDirectory = None,
    catalog: GivenCatalog = None,
    record: Annotated[Path | None, typer.Option(help="Keep the record in this new file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Load a passing fleet, or one that runs, for a short time, and judge the outcome.

    Exit code 1 also says that a promise was broken, or that no write was acknowledged.
    """
    if find_spec("locust") is None:
        raise InvalidConfig("the load test needs Locust: pip install 'tenantry[load]'")
    options = LoadOptions(seconds, users, tenants, *(() if seed is None else (seed,)))
    given = None if catalog is None and directory is None else catalog_of(catalog, directory)
    with shown_steps() as step:
        try:
            summary = run_smoke(options, step, catalog=given, record=record)
        except SystemExit:
            errors.print("stopped; nothing is left behind")
            raise
    if as_json:
        print_json(summary)
    else:
        _print(summary)
    _conclude(summary["verdict"])


@app.command()
def judge(
    record: Annotated[Path, typer.Argument(help="The record of a run, also of a killed one.")],
    catalog: Catalog = None,
    directory: Directory = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove the run's tenants when all is well.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare the record of a run with what the databases hold.

    Exit code 1 also says that a promise was broken, or that no write was acknowledged.
    """
    verdict = judge_record(catalog_of(catalog, directory), record, remove=remove).as_dict()
    if as_json:
        print_json(verdict)
    else:
        _print_verdict(verdict)
    _conclude(verdict)


def _print(summary: dict[str, Any]) -> None:
    console.print(
        f"{summary['users']} users and {summary['tenants']} tenants for {summary['seconds']} s, "
        f"seed {summary['seed']}"
    )
    print_rows(summary["operations"], as_json=False, title="Operations")
    if summary["errors"]:
        print_rows(summary["errors"], as_json=False, title="Errors")
    for line in summary["warnings"]:
        errors.print(line, style="yellow", markup=False, soft_wrap=True)
    _print_verdict(summary["verdict"])
    if summary["record"]:
        errors.print(f"The record is in {summary['record']}", soft_wrap=True)


def _print_verdict(verdict: dict[str, Any]) -> None:
    findings = verdict["findings"]
    if findings:
        print_rows(findings[:_SHOWN], as_json=False, title=f"{len(findings)} findings")
    console.print(
        f"{verdict['acknowledged']:,} writes acknowledged, {verdict['failed']:,} failed, "
        f"{verdict['committed'] + verdict['absent']:,} of unknown outcome "
        f"({verdict['committed']:,} there, {verdict['absent']:,} not)"
    )


def _conclude(verdict: dict[str, Any]) -> None:
    if not verdict["clean"]:
        errors.print(f"[bold red]{len(verdict['findings'])} findings[/]: a promise was broken")
        raise typer.Exit(1)
    if not verdict["acknowledged"]:
        errors.print("[bold red]no write was acknowledged[/]: this proves nothing")
        raise typer.Exit(1)
    errors.print("[green]every acknowledged write is there once, and nothing else is[/]")
