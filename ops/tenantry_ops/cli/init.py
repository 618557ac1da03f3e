"""``tenantry init``: make a fleet out of empty databases."""

from __future__ import annotations

from typing import Annotated

import typer
from psycopg.conninfo import conninfo_to_dict
from rich.progress import Progress

from tenantry.conninfo import parse
from tenantry.map import Node, Shard
from tenantry_ops.cli.output import (
    DEFAULT_DIRECTORY,
    AsJson,
    Catalog,
    Directory,
    console,
    errors,
    print_json,
)
from tenantry_ops.fleet import Fleet
from tenantry_ops.initialise import InitPlan, embedded_plan, initialise
from tenantry_schema.errors import InvalidConfig

_LAST_PORT = 65_535


def init(
    *,
    catalog: Catalog = None,
    directory: Directory = None,
    shard: Annotated[
        list[str] | None,
        typer.Option(help="NAME=CONNINFO of a shard; hosts and ports may be lists."),
    ] = None,
    buckets: Annotated[int, typer.Option(help="Equal ranges of the hash space.")] = 64,
    models: Annotated[
        str | None, typer.Option(help="module:attribute of your own MetaData.")
    ] = None,
    if_missing: Annotated[
        bool, typer.Option("--if-missing", help="Leave a fleet that is there as it is.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Create the catalog, migrate every shard and lay out the buckets."""
    if catalog is not None:
        shards = tuple(_shard(number, it) for number, it in enumerate(shard or [], start=1))
        plan = InitPlan(catalog, shards, buckets, models)
    else:
        place = directory or DEFAULT_DIRECTORY
        plan = embedded_plan(Fleet.load(place), buckets=buckets, models=models)
    if buckets & (buckets - 1):
        errors.print(
            f"[yellow]{buckets} is not a power of two:[/] it works, but its buckets do not nest in "
            "the shards of Citus"
        )
    steps = 1 + len(plan.shards) + plan.buckets
    with Progress(console=errors, transient=True) as progress:
        bar = progress.add_task("init", total=steps)

        def step(message: str) -> None:
            progress.update(bar, advance=1, description=message)

        fleet_id = initialise(plan, progress=step, if_missing=if_missing)
        made = progress.tasks[bar].completed > 0
    facts = {"buckets": buckets, "shards": len(plan.shards)} if made else {}
    if as_json:
        print_json({"fleet": fleet_id, "made": made, **facts})
    elif made:
        console.print(f"fleet {fleet_id}: {buckets} buckets on {len(plan.shards)} shards")
    else:
        console.print(f"fleet {fleet_id} is there already: nothing was changed")


def _shard(number: int, given: str) -> Shard:
    name, separator, conninfo = given.partition("=")
    if not separator:
        raise InvalidConfig(
            "--shard takes NAME=CONNINFO, such as shard-1='host=a,b dbname=tenantry'"
        )
    parsed = parse(conninfo)
    if "password" in conninfo_to_dict(conninfo):
        raise InvalidConfig(
            f"--shard {name}: no password in the conninfo; use PGPASSFILE or PGSERVICEFILE"
        )
    hosts = str(parsed.get("host", "")).split(",")
    ports = str(parsed.get("port", "5432")).split(",")
    ports = ports * len(hosts) if len(ports) == 1 else ports
    if not hosts[0] or len(ports) != len(hosts):
        raise InvalidConfig(f"--shard {name}: name a host, and one port or one for each host")
    if not all(port.isdecimal() and 1 <= int(port) <= _LAST_PORT for port in ports):
        raise InvalidConfig(
            f"--shard {name}: a port is 1 to {_LAST_PORT}, not {','.join(ports)!r:.80}"
        )
    dbname = str(parsed.get("dbname", "tenantry"))
    nodes = (
        Node(f"{name}-{chr(97 + it)}", host, int(port), dbname)
        for it, (host, port) in enumerate(zip(hosts, ports, strict=True))
    )
    return Shard(number, name, tuple(nodes))
