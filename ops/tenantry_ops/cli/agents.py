"""``tenantry agents``: mint agent ids, and say where they lead."""

from __future__ import annotations

from typing import Annotated

import typer

from tenantry.ids import mint_agent_id, parse_agent_id
from tenantry.keys import normalize
from tenantry.route import agent_uuid
from tenantry_ops import tenants as directory_of
from tenantry_ops.cli.output import AsJson, Catalog, Directory, catalog_of, print_rows
from tenantry_ops.cluster import read_places

app = typer.Typer(help="Mint agent ids, and say where they lead.", no_args_is_help=True)


@app.command()
def mint(
    tenant: Annotated[str, typer.Argument(help="Name or key of the tenant.")],
    count: Annotated[int, typer.Option(min=1, max=100_000, help="How many.")] = 1,
    catalog: Catalog = None,
    directory: Directory = None,
    as_json: AsJson = False,
) -> None:
    """Mint ids for agents of a tenant; they are not registered anywhere."""
    found = directory_of.show(catalog_of(catalog, directory), tenant)
    held = read_places(catalog_of(catalog, directory)).map
    text = found["tenant"]
    key = normalize(int(text) if held.key_type == "bigint" else text, held.key_type)
    print_rows(({"agent": mint_agent_id(key)} for _ in range(count)), as_json=as_json)


@app.command()
def where(
    agent: Annotated[str, typer.Argument(help="An agent's id.")],
    catalog: Catalog = None,
    directory: Directory = None,
    as_json: AsJson = False,
) -> None:
    """Say to which bucket and shard an agent's id leads."""
    found = agent_uuid(agent)
    held = read_places(catalog_of(catalog, directory)).map
    placement = held.of_agent(found)
    row = {
        "agent": found,
        "position": parse_agent_id(found).position,
        "bucket": placement.bucket,
        "schema": placement.schema,
        "shard": held.shards[placement.shard].name,
    }
    print_rows([row], as_json=as_json)
