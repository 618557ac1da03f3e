"""``tenantry partitions rollover``, and the units that run it."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import psycopg
import typer
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn

from tenantry.conninfo import parse
from tenantry_ops.cli.output import (
    AsJson,
    Catalog,
    Directory,
    console,
    errors,
    print_json,
    print_rows,
)
from tenantry_ops.cli.partitions.archive import archiver_of
from tenantry_ops.cli.partitions.options import (
    ArchiveTo,
    Buckets,
    Dsn,
    Jobs,
    LockTimeout,
    Patience,
    Shards,
    Tables,
    places_of,
)
from tenantry_ops.partitions import Database, DatabaseReport, roll_over_all
from tenantry_ops.partitions.lead import exit_code, write_metrics
from tenantry_ops.partitions.units import render_units
from tenantry_partitions.budget import Budget
from tenantry_schema.errors import InvalidConfig, InvalidInput, TenantryError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from tenantry_partitions.archive import Archiver


Metrics = Annotated[Path | None, typer.Option(help="File for node_exporter's textfile collector.")]
Alert = Annotated[int, typer.Option(help="Exit with 3 when fewer partitions lie ahead.")]


def rollover(
    *,
    dsn: Dsn = None,
    catalog: Catalog = None,
    directory: Directory = None,
    table: Tables = None,
    shard: Shards = None,
    bucket: Buckets = None,
    jobs: Jobs = 4,
    archive: ArchiveTo = None,
    lock_timeout: LockTimeout = 50,
    patience: Patience = 60.0,
    alert: Alert = 2,
    metrics: Metrics = None,
    watch: Annotated[
        float | None, typer.Option(min=1, help="Go on, every so many seconds.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make what is due and retire what is old; exit with 1 for failures, 3 for a short lead."""
    budget = Budget(lock_timeout / 1000, patience)
    archiver = None if archive is None else archiver_of(archive)

    def once() -> int:
        places = places_of(dsn, catalog, directory, table, shard, bucket)
        reports = _roll_over(places, budget, jobs, archiver)
        if metrics is not None:
            write_metrics(metrics, reports, time.time())
        _print_reports(reports, as_json=as_json)
        return exit_code(reports, alert)

    if watch is None:
        raise typer.Exit(once())
    _watch(once, watch)


def units(
    *,
    dsn: Dsn = None,
    catalog: Catalog = None,
    jobs: Jobs = 4,
    archive: ArchiveTo = None,
    alert: Alert = 2,
    metrics: Metrics = None,
    user: Annotated[str, typer.Option(help="Who runs the service.")] = "tenantry",
    schedule: Annotated[str, typer.Option(help="systemd's OnCalendar.")] = "hourly",
    into: Annotated[Path | None, typer.Option(help="Folder to write the files to.")] = None,
    as_json: AsJson = False,
) -> None:
    """Render the units of a systemd service and timer for the rollover."""
    options: dict[str, object] = {"--dsn": dsn, "--catalog": catalog, "--jobs": jobs}
    options |= {"--archive": archive, "--alert": alert, "--metrics": metrics}
    arguments = [
        word
        for option, value in options.items()
        if value is not None
        for word in (option, str(value))
    ]
    written = [] if metrics is None else [metrics.parent]
    if archive is not None and archive.startswith("file://"):
        written.append(Path(archive.removeprefix("file://")))
    for given in (dsn, catalog):
        if given is not None and "password" in parse(given):
            raise InvalidConfig("no password in a unit file: use PGPASSFILE or PGSERVICEFILE")
    program = shutil.which("tenantry") or "/usr/bin/tenantry"
    rendered = render_units(program, arguments, user=user, schedule=schedule, written=written)
    if into is not None:
        for name, text in rendered.items():
            (into / name).write_text(text)
            errors.print(f"[dim]written: {into / name}[/]")
    if as_json:
        print_json(
            [
                {"unit": name, "text": text, "written": None if into is None else into / name}
                for name, text in rendered.items()
            ]
        )
    elif into is None:
        for name, text in rendered.items():
            typer.echo(f"# {name}\n{text}")


def _watch(once: Callable[[], object], seconds: float) -> NoReturn:
    """Go on for ever: a catalog that is away for a while ends nothing."""
    while True:
        try:
            once()
        except InvalidInput:
            raise
        except (TenantryError, psycopg.Error) as error:
            said = f"[bold red]{type(error).__name__}[/]: {escape(str(error).strip())}"
            errors.print(said, soft_wrap=True)
        threading.Event().wait(seconds)


def _roll_over(
    places: list[Database], budget: Budget, jobs: int, archiver: Archiver | None
) -> list[DatabaseReport]:
    columns = (SpinnerColumn(), TextColumn("{task.completed} tables, {task.description}"))
    quiet = not errors.is_terminal
    with Progress(*columns, console=errors, transient=True, disable=quiet) as progress:
        bar = progress.add_task("begin", total=None)
        return roll_over_all(
            places,
            budget,
            jobs=jobs,
            archiver=archiver,
            progress=lambda name, target: progress.update(
                bar, advance=1, description=f"{name}: {'.'.join(target)}"
            ),
        )


def _print_reports(reports: list[DatabaseReport], *, as_json: bool) -> None:
    rows: list[dict[str, Any]] = [
        {
            "database": report.name,
            "error": report.error,
            "tables": [it.as_row() for it in report.tables],
        }
        for report in reports
    ]
    if as_json:
        print_json(rows)
        return
    listed = [
        {
            "database": row["database"],
            "table": f"{it['schema']}.{it['table']}",
            "steps": len(it["steps"]),
            "ahead": it["ahead"],
            "stall ms": it["stall_ms"],
            "error": "its bucket moved away" if it["moved"] else it["error"],
        }
        for row in rows
        for it in row["tables"]
        if it["steps"] or it["error"] or it["moved"]
    ]
    if listed:
        print_rows(listed, as_json=False, title="What was done")
    for row in rows:
        if row["error"] is not None:
            errors.print(f"[bold red]{row['database']}[/]: {row['error']}", soft_wrap=True)
    seen = [it for row in rows for it in row["tables"]]
    leads = [it["ahead"] for it in seen if it["ahead"] is not None]
    console.print(
        f"{len(seen)} tables in {len(rows)} databases; the shortest lead is "
        f"{min(leads, default='unknown')} partitions"
    )
