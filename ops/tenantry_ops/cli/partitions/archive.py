"""``tenantry partitions archive``: what lies in object storage, whether it is whole, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenantry_ops.cli.output import AsJson, Catalog, Directory, console, print_json, print_rows
from tenantry_ops.cli.partitions.options import ArchiveTo, Dsn, LockTimeout, Patience, places_of
from tenantry_partitions.budget import Budget
from tenantry_partitions.session import maintenance
from tenantry_schema.errors import ArchiveMismatch, InvalidConfig, NotFound

if TYPE_CHECKING:
    from tenantry_partitions.archive import Archiver, Manifest, Store

app = typer.Typer(help="List, verify and restore archived partitions.", no_args_is_help=True)

Path_ = Annotated[str, typer.Argument(help="A manifest's path, as `archive list` says it.")]


@app.command("list")
def list_(
    prefix: Annotated[str, typer.Argument(help="Of the manifests' paths.")] = "",
    archive: ArchiveTo = None,
    as_json: AsJson = False,
) -> None:
    """List what is archived."""
    found = archiver_of(archive).store.manifests(prefix)
    print_rows((it.as_row() for it in found), as_json=as_json)


@app.command()
def verify(
    prefix: Annotated[str, typer.Argument(help="Of the manifests' paths.")] = "",
    archive: ArchiveTo = None,
    as_json: AsJson = False,
) -> None:
    """Read every file back and compare it with its manifest; exit with 1 when one differs."""
    store = archiver_of(archive).store
    rows = [
        {"manifest": it.name, "rows": it.content.rows, "problem": _problem(store, it)}
        for it in store.manifests(prefix)
    ]
    print_rows(rows, as_json=as_json)
    if any(row["problem"] for row in rows):
        raise typer.Exit(1)


@app.command()
def restore(
    manifest: Path_,
    *,
    schema: Annotated[
        str | None, typer.Option(help="Where its table lies now, if its bucket was renamed.")
    ] = None,
    dsn: Dsn = None,
    catalog: Catalog = None,
    directory: Directory = None,
    archive: ArchiveTo = None,
    lock_timeout: LockTimeout = 50,
    patience: Patience = 60.0,
    as_json: AsJson = False,
) -> None:
    """Make an archived partition again: attached, and exempt from its table's retention."""
    from tenantry_partitions.archive import restore as restoring  # noqa: PLC0415  an extra

    store = archiver_of(archive).store
    found = store.manifest(manifest)
    if found is None:
        raise NotFound(f"there is no manifest {manifest!r:.200}: see `archive list`")
    budget = Budget(lock_timeout / 1000, patience)
    target = (schema or found.schema, found.table)
    for place in places_of(dsn, catalog, directory, None, None, None):
        if dsn is None and target[0] not in place.buckets:
            continue
        with maintenance(place.conninfo, budget) as conn:
            policy = place.policies(conn).get(target)
            if policy is not None:
                restoring(conn, store, found, policy, budget, schema=schema)
                _print_restored(found, target, as_json=as_json)
                return
    raise NotFound(f"no policy names {'.'.join(target)}: set one, and its table, first")


def _print_restored(manifest: Manifest, target: tuple[str, str], *, as_json: bool) -> None:
    rows, where = manifest.content.rows, ".".join(target)
    if as_json:
        print_json({"manifest": manifest.name, "table": where, "rows": rows})
    else:
        console.print(f"{rows} rows are back in {where}")


def archiver_of(address: str | None) -> Archiver:
    """Return what archives to an address.

    :raises InvalidConfig: without an address, or without the extra
    """
    if address is None:
        raise InvalidConfig("which archive? Name it with --archive or TENANTRY_ARCHIVE")
    try:
        from tenantry_partitions.archive import Archiver, Store  # noqa: PLC0415  an extra
    except ImportError as error:
        raise InvalidConfig(
            f"archives need the extra: pip install 'tenantry[archive]' ({error})"
        ) from error
    return Archiver(Store.open(address))


def _problem(store: Store, manifest: Manifest) -> str | None:
    try:
        found: Any = store.digest(manifest.path)
    except ArchiveMismatch as error:
        return str(error)
    same = found == (manifest.size, manifest.sha256)
    return None if same else f"{found[0]} bytes of another digest than was written"
