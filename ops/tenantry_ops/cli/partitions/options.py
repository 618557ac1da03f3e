"""Which tables are meant: a fleet's, some of them, or those of one database."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tenantry.conninfo import parse
from tenantry_ops.cli.output import catalog_of
from tenantry_ops.partitions import Database, databases, one_database
from tenantry_schema.errors import InvalidConfig

Dsn = Annotated[
    str | None,
    typer.Option(
        "--dsn",
        envvar="TENANTRY_PARTITIONS_DSN",
        help="libpq conninfo of one database, with or without tenantry's buckets.",
    ),
]
Tables = Annotated[
    list[str] | None,
    typer.Option("--table", help="schema.table, or a bucketed table's name; may be repeated."),
]
Shards = Annotated[list[str] | None, typer.Option("--shard", help="A shard's name.")]
Buckets = Annotated[list[int] | None, typer.Option("--bucket", help="A bucket's number.")]
ArchiveTo = Annotated[
    str | None,
    typer.Option(
        "--archive", envvar="TENANTRY_ARCHIVE", help="file:///folder or s3://bucket/prefix."
    ),
]
Jobs = Annotated[int, typer.Option(min=1, max=256, help="Databases at once.")]
LockTimeout = Annotated[
    int, typer.Option("--lock-timeout", help="Milliseconds that one attempt at a lock may wait.")
]
Patience = Annotated[float, typer.Option(help="Seconds for all locks of a table.")]


def policies_at(dsn: str | None, catalog: str | None, directory: Path | None) -> str:
    """Return where policies are kept: in a database alone, or in the fleet's catalog."""
    if dsn is not None:
        parse(dsn)
        return dsn
    return catalog_of(catalog, directory)


def one_dsn(dsn: str | None) -> str:
    """Return the conninfo of the one database that is meant.

    :raises InvalidConfig: when none is given, or libpq cannot read it
    """
    if dsn is None:
        raise InvalidConfig("which database? Name it with --dsn or TENANTRY_PARTITIONS_DSN")
    parse(dsn)
    return dsn


def places_of(
    dsn: str | None,
    catalog: str | None,
    directory: Path | None,
    tables: list[str] | None,
    shards: list[str] | None,
    buckets: list[int] | None,
) -> list[Database]:
    """Return the databases that are meant.

    :raises InvalidConfig: when one database is named together with parts of a fleet
    """
    if dsn is None:
        where = catalog_of(catalog, directory)
        return databases(where, shards=shards or (), buckets=buckets or (), tables=tables or ())
    if shards or buckets:
        raise InvalidConfig("--dsn names one database: --shard and --bucket go with --catalog")
    return one_database(dsn, tables or ())
