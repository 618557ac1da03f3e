"""``tenantry partitions policy``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import psycopg
import typer

from tenantry_ops.cli.output import AsJson, Catalog, Directory, console, print_json, print_rows
from tenantry_ops.cli.partitions.options import Dsn, places_of, policies_at
from tenantry_partitions.policies import set_policy, unset_policy
from tenantry_partitions.policy import Policy

app = typer.Typer(help="Show and set what partitions are to be.", no_args_is_help=True)


@app.command("list")
def list_policies(
    *,
    dsn: Dsn = None,
    catalog: Catalog = None,
    directory: Directory = None,
    as_json: AsJson = False,
) -> None:
    """List the policies that hold for each database."""
    rows: list[dict[str, Any]] = []
    for place in places_of(dsn, catalog, directory, None, None, None):
        with psycopg.connect(place.conninfo, autocommit=True) as conn:
            named = place.named(conn)
        rows.extend({"database": place.name, "name": it, **named[it].as_row()} for it in named)
    print_rows(rows, as_json=as_json)


@app.command("set")
def set_(
    name: Annotated[str, typer.Argument(help="schema.table, or a bucketed table's name.")],
    *,
    control: Annotated[str, typer.Option(help="The column it is partitioned by.")],
    interval: Annotated[str, typer.Option(help="How long a partition is, such as '1 week'.")],
    premake: Annotated[int, typer.Option(help="Partitions beyond the current one.")] = 7,
    retention: Annotated[str | None, typer.Option(help="Such as '90 days'.")] = None,
    at_end: Annotated[str, typer.Option(help="keep, detach, drop or archive.")] = "keep",
    encoding: Annotated[
        str | None, typer.Option(help="time, uuid7, seconds or milliseconds.")
    ] = None,
    names: Annotated[str | None, typer.Option(help="pg_partman's datetime_string.")] = None,
    anchor: Annotated[datetime | None, typer.Option(help="Where one partition begins.")] = None,
    time_zone: Annotated[str, typer.Option(help="UTC, always.")] = "UTC",
    dsn: Dsn = None,
    catalog: Catalog = None,
    directory: Directory = None,
    as_json: AsJson = False,
) -> None:
    """Set a table's policy: in the fleet's catalog, or in the database alone."""
    given = {
        "control": control,
        "interval": interval,
        "premake": premake,
        "retention": retention,
        "at_end": at_end,
        "encoding": encoding,
        "names": names,
        "anchor": None if anchor is None else anchor.replace(tzinfo=UTC),
        "time_zone": time_zone,
    }
    policy = Policy.parse(given)
    with psycopg.connect(policies_at(dsn, catalog, directory), autocommit=True) as conn:
        set_policy(conn, name, policy)
    print_rows([{"name": name, **policy.as_row()}], as_json=as_json)


@app.command()
def unset(
    name: Annotated[str, typer.Argument(help="As in `policy list`.")],
    *,
    dsn: Dsn = None,
    catalog: Catalog = None,
    directory: Directory = None,
    as_json: AsJson = False,
) -> None:
    """Forget a policy that was set; partitions stay as they are."""
    with psycopg.connect(policies_at(dsn, catalog, directory), autocommit=True) as conn:
        unset_policy(conn, name)
    if as_json:
        print_json({"unset": name})
    else:
        console.print(f"the policy of {name} is forgotten", highlight=False, soft_wrap=True)
