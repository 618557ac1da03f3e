"""``tenantry partitions adopt`` and ``export-partman``, and ``tenantry partman doctor``."""

from __future__ import annotations

from typing import Annotated, Any

import psycopg
import typer

from tenantry_ops.cli.output import AsJson, console, print_rows
from tenantry_ops.cli.partitions.options import Dsn, one_dsn
from tenantry_partitions.budget import Budget
from tenantry_partitions.inspect import inspect_one
from tenantry_partitions.partman import (
    adopted_policy,
    diagnose,
    exported,
    find_extension,
    read_sets,
    set_automatic,
    write_set,
)
from tenantry_partitions.policies import read_policies, set_policy, targets
from tenantry_partitions.session import connect
from tenantry_schema.errors import NotFound

app = typer.Typer(help="Find what pg_partman does not say.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="schema.table of the set.")]


@app.callback()
def _group() -> None:
    """Find what pg_partman does not say."""


@app.command()
def doctor(dsn: Dsn = None, as_json: AsJson = False) -> None:
    """Name what fails in silence in pg_partman's sets; exit with 1 when something is wrong."""
    with _prepared(dsn) as conn:
        found = diagnose(conn)
    rows = [
        {
            "set": name,
            "found": it.kind,
            "problem": it.problem,
            "what to do": it.remedy,
            "wrong": it.wrong,
        }
        for name, it in found
    ]
    if rows or as_json:
        print_rows(rows, as_json=as_json, title="What pg_partman does not say")
    else:
        console.print("every set of pg_partman is in order")
    if any(it.wrong for _, it in found):
        raise typer.Exit(1)


def adopt(
    name: Name,
    *,
    beside: Annotated[
        bool, typer.Option("--beside", help="Let pg_partman's maintenance go on as well.")
    ] = False,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Take over a set that pg_partman 4.7 or 5 began, with its names."""
    with _prepared(dsn) as conn:
        extension = find_extension(conn)
        given = next((it for it in read_sets(conn, extension) if it.parent_table == name), None)
        if given is None:
            raise NotFound(f"pg_partman keeps no set {name!r:.80}: see its part_config")
        policy = adopted_policy(conn, given)
        with conn.transaction():
            set_policy(conn, name, policy)
            if not beside:
                set_automatic(conn, extension, name, on=False)
    print_rows([{"name": name, **policy.as_row()}], as_json=as_json)


def export_partman(name: Name, *, dsn: Dsn = None, as_json: AsJson = False) -> None:
    """Write pg_partman's configuration, so that it goes on with a set of tenantry's."""
    with _prepared(dsn) as conn:
        extension = find_extension(conn)
        policy = read_policies(conn).get(name)
        if policy is None:
            raise NotFound(f"there is no policy of {name!r:.80} here: `partitions policy list`")
        ((target, _),) = targets({name: policy}).items()
        table = inspect_one(conn, target, policy)
        row: dict[str, Any] = exported(name, policy, table.encoding, extension.major)
        write_set(conn, extension, row)
    print_rows([row], as_json=as_json)


def _prepared(dsn: str | None) -> psycopg.Connection[Any]:
    return connect(one_dsn(dsn), Budget())
