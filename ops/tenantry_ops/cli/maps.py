"""``tenantry map``: what routers hold, and what shards know of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

import typer

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
from tenantry_ops.cluster import read_places
from tenantry_ops.publish import publish_map

app = typer.Typer(help="Show where buckets are placed, and tell the shards.", no_args_is_help=True)

_MOST_SHOWN = 128


@app.command()
def show(catalog: Catalog = None, directory: Directory = None, as_json: AsJson = False) -> None:
    """Show the map: its version, and every bucket's range and shard."""
    held = read_places(catalog_of(catalog, directory)).map
    names = {number: shard.name for number, shard in held.shards.items()}
    buckets = [
        {
            "bucket": it.number,
            "generation": it.generation,
            "shard": names.get(it.shard, f"{it.shard} (not described)"),
            "from": it.lo,
            "to": it.hi,
        }
        for it in held.buckets()
    ]
    counted = Counter(it["shard"] for it in buckets)
    shards: list[dict[str, Any]] = [
        {
            "shard": shard.name,
            "buckets": counted[shard.name],
            "nodes": [f"{node.name} {node.host}:{node.port}" for node in shard.nodes],
        }
        for shard in held.shards.values()
    ]
    if as_json:
        head = {"version": held.version, "fleet": held.fleet_id, "key_type": held.key_type}
        print_json({**head, "pins": held.pin_count, "shards": shards, "buckets": buckets})
        return
    console.print(
        f"map version {held.version}, {len(held)} buckets, {held.pin_count} pins, "
        f"keys of type {held.key_type}"
    )
    if len(buckets) <= _MOST_SHOWN:
        print_rows(buckets, as_json=False)
    print_rows(({**it, "nodes": "\n".join(it["nodes"])} for it in shards), as_json=False)


@app.command()
def publish(catalog: Catalog = None, directory: Directory = None, as_json: AsJson = False) -> None:
    """Tell every shard the ranges and pins that its `tenantry.bucket_of` answers from."""
    told = publish_map(
        catalog_of(catalog, directory), progress=lambda name: errors.print(f"[dim]{name}[/]")
    )
    print_rows((asdict(it) for it in told), as_json=as_json, title="Rows that changed")
