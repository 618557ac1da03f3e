"""Make an archived partition again: attached, queryable, and exempt from the next retirement."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from psycopg import errors, sql

from tenantry_partitions.archive.archiver import rows_of, whole
from tenantry_partitions.archive.content import content_of, copy_in, generated_in
from tenantry_partitions.coverage import overlaps
from tenantry_partitions.executor import Executor
from tenantry_partitions.inspect import inspect_one
from tenantry_partitions.marker import Marker
from tenantry_partitions.policy import AtEnd
from tenantry_partitions.steps import Guard, Unguard
from tenantry_schema.errors import AlreadyExists, ArchiveMismatch, RolloverFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

    from tenantry_partitions.archive.manifest import Manifest
    from tenantry_partitions.archive.store import Store
    from tenantry_partitions.budget import Budget
    from tenantry_partitions.inspect import Inspected
    from tenantry_partitions.policy import Policy


def restore(  # noqa: PLR0913  what, whence and whither
    conn: psycopg.Connection[Any],
    store: Store,
    manifest: Manifest,
    policy: Policy,
    budget: Budget,
    *,
    schema: str | None = None,
) -> None:
    """Restore a partition in one transaction: it is there, whole and attached, or not at all.

    :param conn: a session of :func:`~tenantry_partitions.session.maintenance`
    :param schema: where its table lies now; None for where it lay
    :raises AlreadyExists: when its name is taken, or a partition has or may have rows of its range
    :raises ArchiveMismatch: when what comes back is not what was archived
    :raises LockNotGranted: when the budget is spent
    """
    table = inspect_one(conn, (schema or manifest.schema, manifest.table), policy)
    _refuse_existing(table, manifest)
    place = sql.Identifier(table.state.schema, manifest.partition)
    marker = Marker(manifest.table, manifest.start, manifest.end, AtEnd.KEEP, manifest.name)

    def fill(cursor: psycopg.Cursor[Any]) -> None:
        computed = generated_in(conn, place)
        names = [name for name, _ in manifest.columns if name not in computed]
        copy_in(cursor, place, names, rows_of(file, manifest))
        found = content_of(conn, place)
        if found != manifest.content:
            raise ArchiveMismatch(
                f"{manifest.name} says {manifest.content.rows} rows, but {found.rows} of another "
                "digest came back: nothing was restored"
            )

    executor = Executor(conn, table, budget)
    # Fetched before the transaction begins, which may not be idle for long.
    with whole(store, manifest) as file, _guarded(executor, table, manifest):
        executor.attach_filled(manifest.partition, (manifest.start, manifest.end), marker, fill)


@contextmanager
def _guarded(executor: Executor, table: Inspected, manifest: Manifest) -> Iterator[None]:
    """Keep the attachment from scanning a default partition with rows under lock."""
    default = table.state.default
    if default is None or not default.filled:
        yield
        return
    span = (manifest.start, manifest.end)
    try:
        executor.run(Guard(default.name, *span, "its rows would be scanned under lock"))
        yield
    except RolloverFailed as error:
        if isinstance(error.__cause__, errors.CheckViolation):
            raise AlreadyExists(
                f"default partition {default.name} has rows of that time: move them first, "
                "nothing was restored"
            ) from error
        raise
    finally:
        executor.run(Unguard(default.name, *span, "the restore has ended"))


def _refuse_existing(table: Inspected, manifest: Manifest) -> None:
    state, span = table.state, (manifest.start, manifest.end)
    for it in state.partitions:
        if it.name == manifest.partition or overlaps((it.start, it.end), span):
            raise AlreadyExists(
                f"partition {it.name} has rows of that time: detach it first, nothing was restored"
            )
    if manifest.partition in state.taken | {it.name for it in state.retired}:
        raise AlreadyExists(
            f"a table {state.schema}.{manifest.partition} is there: rename or drop it first, "
            "nothing was restored"
        )
