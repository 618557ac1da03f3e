"""``tenantry bouncer``: write, check and steer the PgBouncers in front of a fleet."""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Any

import typer

from tenantry_ops.bouncer import Pooler, resume_all
from tenantry_ops.bouncer.apply import Patience, apply_plan, plan_for, running, write
from tenantry_ops.bouncer.auth import auth_password, auth_scripts, install_auth
from tenantry_ops.bouncer.change import Plan
from tenantry_ops.bouncer.defects import warning_of
from tenantry_ops.bouncer.inspection import inspect
from tenantry_ops.bouncer.merge import Edited
from tenantry_ops.bouncer.pause import pause_for
from tenantry_ops.bouncer.readback import Mismatch
from tenantry_ops.bouncer.render import HBA, INI, Rendering
from tenantry_ops.bouncer.settings import parse_settings, read_settings
from tenantry_ops.bouncer.source import catalog_source, target_version, want
from tenantry_ops.bouncer.status import status as status_of
from tenantry_ops.cli.output import (
    DEFAULT_DIRECTORY,
    AsJson,
    Catalog,
    Directory,
    catalog_of,
    console,
    errors,
    json_in_two,
    print_json,
    print_rows,
)
from tenantry_schema.errors import InvalidConfig

app = typer.Typer(
    help="Write, check and steer the PgBouncers in front of a fleet.", no_args_is_help=True
)

At = Annotated[
    Path | None,
    typer.Option(
        "--at",
        envvar="TENANTRY_BOUNCER_DIR",
        help="Folder of pgbouncer.ini; default the embedded fleet's, else /etc/pgbouncer.",
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="NAME=VALUE of a setting; see docs/howto/pgbouncer.md."),
]
Consoles = Annotated[
    list[str] | None,
    typer.Option("--console", help="libpq conninfo of a console; may be repeated."),
]
Superuser = Annotated[
    str | None, typer.Option(help="Superuser of the servers, whose password libpq finds.")
]
Names = Annotated[list[str], typer.Argument(help="Databases of PgBouncer, such as shard-1.")]
Deadline = Annotated[float, typer.Option(help="Seconds for open transactions to end.")]
Lease = Annotated[float, typer.Option(help="Seconds after which clients go on, come what may.")]

#: What is the same for every database of a PgBouncer.
_SAID = ("pooler", "version")


@app.command()
def render(
    at: At = None,
    settings: Set = None,
    catalog: Catalog = None,
    directory: Directory = None,
    superuser: Superuser = None,
    printed: Annotated[
        bool, typer.Option("--print", help="Print instead of writing; without secrets.")
    ] = False,
    explain: Annotated[bool, typer.Option(help="Show the arithmetic of the pools.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write the files of a PgBouncer that is to be; of one that is there, see diff and apply."""
    place = _place(at, directory)
    rendering, passfile = _wanted(place, settings, catalog, directory, superuser)
    if explain:
        print_rows((it._asdict() for it in rendering.sizes.steps), as_json=as_json)
    if printed:
        texts = rendering.texts()
        typer.echo(f"{texts[INI]}\n; {HBA}:\n{texts[HBA]}")
    if printed or explain:
        return
    if (place / INI).exists():
        raise InvalidConfig(
            f"there is a {INI} in {place}: look at what would change with `tenantry bouncer diff`, "
            "and bring it into force with `tenantry bouncer apply`"
        )
    plan = plan_for(place, rendering, Edited.REFUSE, passfile)
    write(place, plan)
    written = [str(place / it) for it in plan.files]
    if as_json:
        print_json({"version": str(rendering.version), "written": written})
    else:
        console.print(f"for PgBouncer {rendering.version}: {', '.join(written)}", soft_wrap=True)


@app.command()
def check(
    at: At = None, settings: Set = None, directory: Directory = None, as_json: AsJson = False
) -> None:
    """Find what PgBouncer would misread in the files that lie there; exit with 1 for any."""
    place = _place(at, directory)
    version = target_version(read_settings(place, parse_settings(settings or [])), place)
    found = inspect(place, version)
    defects = warning_of(version)
    if defects is not None:
        errors.print(defects, markup=False, highlight=False, soft_wrap=True)
    if found or as_json:
        print_rows((it._asdict() for it in found), as_json=as_json, title="What is wrong")
    else:
        console.print(f"PgBouncer {version} reads these files as they are meant")
    if found:
        raise typer.Exit(1)


@app.command()
def diff(
    at: At = None,
    settings: Set = None,
    catalog: Catalog = None,
    directory: Directory = None,
    superuser: Superuser = None,
    as_json: AsJson = False,
) -> None:
    """Show what apply would change, what hands changed, what runs otherwise; exit 1 for any."""
    place = _place(at, directory)
    rendering, passfile = _wanted(place, settings, catalog, directory, superuser)
    plan = plan_for(place, rendering, Edited.KEEP, passfile)
    different = [it._asdict() for it in running(Pooler.at(place))] if (place / INI).exists() else []
    if as_json:
        print_json({**_told(plan), "running": different})
    else:
        _show(plan)
        if different:
            print_rows(different, as_json=False, title="What runs otherwise than its file says")
    if plan.changes or plan.edited or different:
        raise typer.Exit(1)


@app.command()
def apply(
    at: At = None,
    settings: Set = None,
    catalog: Catalog = None,
    directory: Directory = None,
    superuser: Superuser = None,
    edited: Annotated[
        Edited, typer.Option(help="What becomes of what was changed by hand.")
    ] = Edited.REFUSE,
    disconnect: Annotated[
        bool, typer.Option(help="Let entries go whose clients are connected.")
    ] = False,
    deadline: Deadline = 5.0,
    lease: Lease = 30.0,
    as_json: AsJson = False,
) -> None:
    """Show what changes, bring it into force, and compare what runs with it."""
    place = _place(at, directory)
    rendering, passfile = _wanted(place, settings, catalog, directory, superuser)
    plan = plan_for(place, rendering, edited, passfile)

    def apply_it() -> list[Mismatch]:
        patience = Patience(deadline, lease)
        return apply_plan(Pooler.at(place), plan, patience=patience, disconnect=disconnect)

    if as_json:
        # What is wanted is told before it is tried; `waiting` is null where that failed.
        with json_in_two(_told(plan)) as rest:
            rest["waiting"] = None
            rest["waiting"] = [it._asdict() for it in apply_it()]
        return
    _show(plan)
    waiting = apply_it()
    console.print(f"PgBouncer {plan.version} runs as its files say")
    if waiting:
        rows = [it._asdict() for it in waiting]
        print_rows(rows, as_json=False, title="In force at its next restart")


@app.command()
def auth(
    at: At = None,
    catalog: Catalog = None,
    directory: Directory = None,
    install: Annotated[
        bool, typer.Option("--install", help="Run it on every shard, as --superuser.")
    ] = False,
    superuser: Superuser = "postgres",
    as_json: AsJson = False,
) -> None:
    """Print the SQL that lets PgBouncer ask for verifiers, or run it on every shard."""
    place = _place(at, directory)
    source = catalog_source(catalog_of(catalog, directory), superuser)
    password = auth_password(place)
    if install:
        install_auth(source.shards, source.superuser or {}, password)
        if as_json:
            print_json({"installed": [it.name for it in source.shards]})
        else:
            console.print(f"PgBouncer may ask {len(source.shards)} shards for verifiers")
        return
    scripts = auth_scripts(source.shards, source.given, password)
    if as_json:
        print_json([{"shard": name, "sql": script} for name, script in scripts])
        return
    for name, script in scripts:
        typer.echo(f"-- In the database of shard {name}, as a superuser:\n{script}")


@app.command()
def status(
    at: At = None, consoles: Consoles = None, directory: Directory = None, as_json: AsJson = False
) -> None:
    """Show what every database of PgBouncer does right now."""
    rows = status_of(_poolers(at, consoles, directory))
    if as_json:
        print_json(rows)
        return
    # Said once for each, not in each row: the table is wide.
    for (where, version), group in groupby(rows, itemgetter(*_SAID)):
        shown = ({name: it for name, it in row.items() if name not in _SAID} for row in group)
        print_rows(shown, as_json=False, title=f"{where}, PgBouncer {version}")


@app.command()
def pause(
    names: Names,
    at: At = None,
    consoles: Consoles = None,
    directory: Directory = None,
    deadline: Deadline = 5.0,
    lease: Lease = 60.0,
    as_json: AsJson = False,
) -> None:
    """Hold the clients of databases back, until `resume` or the end of the lease."""
    pause_for(_poolers(at, consoles, directory), names, deadline=deadline, lease=lease)
    if as_json:
        print_json({"paused": names, "lease_s": lease})
        return
    errors.print(
        f"{', '.join(names)} at rest; clients go on with `tenantry bouncer resume`, or by "
        f"themselves in {lease:g} s"
    )


@app.command()
def resume(
    names: Annotated[
        list[str] | None, typer.Argument(help="Databases; default whatever is paused.")
    ] = None,
    at: At = None,
    consoles: Consoles = None,
    directory: Directory = None,
    as_json: AsJson = False,
) -> None:
    """Let the clients of paused databases go on."""
    resumed = resume_all(_poolers(at, consoles, directory), names or None)
    rows = [{"pooler": where, "resumed": name} for where, name in resumed]
    if rows or as_json:
        print_rows(rows, as_json=as_json)
    else:
        console.print("nothing was paused")


def _place(at: Path | None, directory: Path | None) -> Path:
    if at is not None:
        return at.absolute()
    embedded = (directory or DEFAULT_DIRECTORY).resolve()
    found = embedded / "bouncer" if (embedded / "fleet.toml").exists() else Path("/etc/pgbouncer")
    return found.absolute()


def _wanted(
    place: Path,
    settings: list[str] | None,
    catalog: str | None,
    directory: Path | None,
    superuser: str | None,
) -> tuple[Rendering, bytes | None]:
    chosen = read_settings(place, parse_settings(settings or []))
    source = catalog_source(catalog_of(catalog, directory), superuser)
    return want(source, chosen, version=target_version(chosen, place), directory=place)


def _poolers(at: Path | None, consoles: list[str] | None, directory: Path | None) -> list[Pooler]:
    if consoles:
        return [Pooler(it) for it in consoles]
    return [Pooler.at(_place(at, directory))]


def _told(plan: Plan) -> dict[str, Any]:
    return {
        "version": str(plan.version),
        "changes": [it.shown() for it in plan.changes],
        "by_hand": [it.shown() for it in plan.edited],
    }


def _show(plan: Plan) -> None:
    told = _told(plan)
    if plan.edited:
        print_rows(told["by_hand"], as_json=False, title="Changed by hand")
    if plan.changes:
        print_rows(told["changes"], as_json=False, title="What changes")
    else:
        console.print("the files are as they should be")
