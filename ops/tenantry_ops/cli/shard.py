"""``tenantry shard``: who is primary, what commits survive, and how the primary changes."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tenantry.conninfo import parse
from tenantry_ops.bouncer import Pooler
from tenantry_ops.bouncer.embedded import Embedded
from tenantry_ops.cli.output import (
    DEFAULT_DIRECTORY,
    AsJson,
    Catalog,
    Directory,
    catalog_of,
    console,
    errors,
    print_json,
    print_rows,
)
from tenantry_ops.failover import FleetHands, Hands, NoHands
from tenantry_ops.failover import run as running
from tenantry_ops.failover.ask import ask_shard
from tenantry_ops.failover.certify import certify as certify_shard
from tenantry_ops.failover.durability import declare
from tenantry_ops.failover.listing import rows_of
from tenantry_ops.failover.pooled import BouncerGate
from tenantry_ops.failover.record import read_records
from tenantry_ops.failover.survival import survives
from tenantry_ops.failover.switching import MOST_LAG
from tenantry_ops.failover.zone import set_zone
from tenantry_ops.fleet import Fleet
from tenantry_schema.errors import InvalidConfig

if TYPE_CHECKING:
    from tenantry_ops.failover import Outcome

app = typer.Typer(
    help="Show and change which node of a shard is its primary.", no_args_is_help=True
)

Name = Annotated[str, typer.Argument(help="Name of the shard.")]
Hook = Annotated[
    str | None,
    typer.Option(
        "--rewire",
        metavar="CMD",
        help="Command that makes a server of yours a replica; told by TENANTRY_NODE, "
        "TENANTRY_HOST, TENANTRY_PORT, TENANTRY_PRIMARY, …_PRIMARY_HOST, …_PRIMARY_PORT.",
    ),
]


Bouncers = Annotated[
    list[Path] | None,
    typer.Option(
        "--bouncer",
        metavar="DIR",
        help="Folder of a PgBouncer in front of the shard; may be repeated. Default: the embedded "
        "fleet's, if it runs.",
    ),
]


@app.command("list")
def list_(catalog: Catalog = None, directory: Directory = None, as_json: AsJson = False) -> None:
    """Ask every node where it stands, and say what a commit survives."""
    where = catalog_of(catalog, directory)
    found = [ask_shard(it, parse(where)) for it in read_records(where)]
    if as_json:
        print_json(
            [
                {
                    "shard": it.name,
                    "durability": it.durability,
                    "survives": survives(it),
                    "nodes": rows_of(it),
                }
                for it in found
            ]
        )
        return
    for shard in found:
        print_rows(rows_of(shard), as_json=False, title=f"{shard.name} ({shard.durability})")
        console.print(f"an acknowledged commit survives: {survives(shard)}\n", soft_wrap=True)


@app.command()
def switchover(
    name: Name,
    to: Annotated[str, typer.Option(help="Node that becomes primary.")],
    hook: Hook = None,
    bouncers: Bouncers = None,
    max_lag: Annotated[int, typer.Option(min=0, help="Bytes it may be behind.")] = MOST_LAG,
    pause: Annotated[float, typer.Option(min=0.1, help="Seconds to hold clients back.")] = 10.0,
    catalog: Catalog = None,
    directory: Directory = None,
    as_json: AsJson = False,
) -> None:
    """Make another node the primary, as planned; run it again to resume or finish it.

    Exit code 1 also says that something is left to you: it is printed.
    """
    done = running.switchover(
        catalog_of(catalog, directory),
        name,
        to,
        hands=_hands(catalog, directory),
        gates=_gates(name, bouncers, catalog, directory),
        hook=hook,
        most_lag=max_lag,
        pause_s=pause,
        progress=_tell,
    )
    _end(done, as_json)


@app.command()
def failover(
    name: Name,
    to: Annotated[str | None, typer.Option(help="Node that becomes primary.")] = None,
    accept: Annotated[
        str | None,
        typer.Option(
            "--accept-data-loss",
            metavar="BYTES_OR_LSN",
            help="What may be lost: bytes of WAL (16MB), or all after an LSN (0/3000148).",
        ),
    ] = None,
    fenced: Annotated[
        bool, typer.Option(help="The old primary was made sure to be stopped.")
    ] = False,
    hook: Hook = None,
    bouncers: Bouncers = None,
    catalog: Catalog = None,
    directory: Directory = None,
    as_json: AsJson = False,
) -> None:
    """Promote a standby of a shard whose primary is gone; run it again to resume it.

    Exit code 1 also says that something is left to you: it is printed.
    """
    done = running.failover(
        catalog_of(catalog, directory),
        name,
        to=to,
        accept=accept,
        fenced=fenced,
        hands=_hands(catalog, directory),
        gates=_gates(name, bouncers, catalog, directory),
        hook=hook,
        progress=_tell,
    )
    _end(done, as_json)


@app.command()
def rewire(
    name: Name,
    node: Annotated[str, typer.Argument(help="Node that becomes a replica.")],
    hook: Hook = None,
    catalog: Catalog = None,
    directory: Directory = None,
    as_json: AsJson = False,
) -> None:
    """Make a deposed primary, or a node that lost touch, a replica of the primary.

    Exit code 1 also says that something is left to you: it is printed.
    """
    where = catalog_of(catalog, directory)
    hands = _hands(catalog, directory)
    _end(running.rewire(where, name, node, hands=hands, hook=hook, progress=_tell), as_json)


@app.command()
def certify(
    name: Name, catalog: Catalog = None, directory: Directory = None, as_json: AsJson = False
) -> None:
    """Write down the primary's timeline, after a promotion that happened elsewhere."""
    made = certify_shard(catalog_of(catalog, directory), name)
    print_rows([asdict(made)], as_json=as_json)


@app.command()
def durability(
    name: Name,
    level: Annotated[str, typer.Argument(help="local or two-nodes.")],
    catalog: Catalog = None,
    directory: Directory = None,
    as_json: AsJson = False,
) -> None:
    """Declare what commits survive, and set synchronous_standby_names where that is allowed.

    Exit code 1 also says that something is left to you: it is printed.
    """
    left = declare(catalog_of(catalog, directory), name, level)
    if as_json:
        print_json({"shard": name, "durability": level, "remaining": left})
    else:
        console.print(f"{name} is declared {level}")
    _remaining(left)


@app.command("zone")
def zone_(
    name: Name,
    node: Annotated[str, typer.Argument(help="Node that is there.")],
    zone: Annotated[str | None, typer.Argument(help="Its zone, as routers name theirs.")] = None,
    clear: Annotated[bool, typer.Option("--clear", help="It is in no zone.")] = False,
    catalog: Catalog = None,
    directory: Directory = None,
    as_json: AsJson = False,
) -> None:
    """Say in which zone a node is: routers of that zone read there first, open ones at once."""
    if (zone is None) is not clear:
        raise InvalidConfig("say which zone the node is in, or --clear for none")
    set_now = set_zone(catalog_of(catalog, directory), name, node, zone)
    print_rows([asdict(set_now)], as_json=as_json)


def _hands(catalog: str | None, directory: Path | None) -> Hands:
    """Return hands for the servers of the embedded fleet that is meant, if one is."""
    fleet = _fleet(catalog, directory)
    return NoHands() if fleet is None else FleetHands(fleet)


def _gates(
    shard: str, bouncers: list[Path] | None, catalog: str | None, directory: Path | None
) -> list[BouncerGate]:
    """Return the PgBouncers that are named, or the embedded fleet's if it runs."""
    poolers = [Pooler.at(it) for it in bouncers or ()]
    fleet = _fleet(catalog, directory)
    if bouncers is None and fleet is not None:
        embedded = Embedded.of(fleet)
        poolers = [] if embedded.pid is None else [embedded.pooler]
    return [BouncerGate(poolers, shard)] if poolers else []


def _fleet(catalog: str | None, directory: Path | None) -> Fleet | None:
    place = directory or DEFAULT_DIRECTORY
    if (catalog is not None and directory is None) or not (place / "fleet.toml").exists():
        return None
    return Fleet.load(place)


def _tell(message: str) -> None:
    errors.print(f"[dim]{message}[/]", highlight=False, soft_wrap=True)


def _end(done: Outcome, as_json: bool) -> None:
    if as_json:
        print_json(asdict(done))
    else:
        console.print(f"{done.primary} is the primary of {done.shard}")
        if done.loss is not None:
            console.print(f"may be lost: {done.loss}", highlight=False, soft_wrap=True)
    _remaining(done.remaining)


def _remaining(left: list[str] | tuple[str, ...]) -> None:
    for it in left:
        errors.print(f"[yellow]left to you:[/] {it}", highlight=False, soft_wrap=True)
    if left:
        raise typer.Exit(1)
