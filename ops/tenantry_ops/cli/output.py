"""How commands print: a table for people, JSON for programs, errors apart."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from tenantry.conninfo import parse
from tenantry_ops.cli.console import console, errors
from tenantry_ops.fleet import DEFAULT_DIRECTORY, Fleet
from tenantry_schema.errors import InvalidConfig
from tenantry_schema.naming import OPERATOR

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = [
    "DEFAULT_DIRECTORY",
    "AsJson",
    "Catalog",
    "Directory",
    "catalog_of",
    "console",
    "errors",
    "json_in_two",
    "print_json",
    "print_rows",
]

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Directory = Annotated[
    Path | None,
    typer.Option("--dir", envvar="TENANTRY_DIR", help="Folder of an embedded fleet."),
]
Catalog = Annotated[
    str | None,
    typer.Option(
        "--catalog",
        envvar="TENANTRY_CATALOG",
        help="libpq conninfo of the catalog, as tenantry_operator.",
    ),
]


def print_rows(
    rows: Iterable[Mapping[str, Any]], *, as_json: bool, title: str | None = None
) -> None:
    """Print rows of one shape."""
    listed = list(rows)
    if as_json:
        print_json(listed)
        return
    table = Table(title=title, title_justify="left")
    for name in listed[0] if listed else ():
        # A key that is cut off cannot be copied.
        table.add_column(name.replace("_", " "), overflow="fold")
    for row in listed:
        table.add_row(*(_cell(value) for value in row.values()))
    console.print(table)


def _cell(value: object) -> Text:
    """Return a value as it is: brackets of a server's message are not markup."""
    if isinstance(value, datetime):
        return Text(f"{value:%Y-%m-%d %H:%M:%S %Z}")
    return Text("" if value is None else str(value))


def print_json(value: Any) -> None:
    """Print one JSON document."""
    typer.echo(_json(value))


@contextmanager
def json_in_two(first: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Print a JSON object: what is known before the block at once, the rest when it has ended.

    Whoever reads it has the first part also when the block fails, or the process is killed.

    :param first: the object's first members, at least one
    """
    typer.echo(_json(first).removesuffix("}"), nl=False)
    rest: dict[str, Any] = {}
    try:
        yield rest
    finally:
        typer.echo(f", {_json(rest).removeprefix('{')}" if rest else "}")


def _json(value: Any) -> str:
    return json.dumps(value, default=str, ensure_ascii=False)


def catalog_of(catalog: str | None, directory: Path | None, user: str = OPERATOR) -> str:
    """Return the catalog's conninfo: as given, or of the embedded fleet in a folder.

    :raises InvalidConfig: when neither is there
    """
    if catalog is not None:
        # libpq's own complaint would quote the part that it cannot read, which may be a password.
        parse(catalog)
        return catalog
    place = directory or DEFAULT_DIRECTORY
    if (place / "fleet.toml").exists():
        return Fleet.load(place).catalog_conninfo(user)
    raise InvalidConfig(
        f"which fleet? Name its catalog with --catalog or TENANTRY_CATALOG, or start an embedded "
        f"one with `tenantry fleet up` (there is none in {os.fspath(place)})"
    )
