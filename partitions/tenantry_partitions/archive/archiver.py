"""Archive a detached partition, and prove it before it is dropped.

The order is: what the server says of the table; the file, hashed on its way; the file read back, by
its own bytes and by its rows in a scratch table, of which the server says the same; the manifest;
the partition's comment. Killed anywhere before the manifest, the next run writes the file anew;
after it, it goes on from there. The drop compares once more, in its own transaction.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa
from psycopg import sql
from pyarrow import parquet

from tenantry_partitions.archive.columns import BLOCK, arrow_schema, batches_from_csv, row_groups
from tenantry_partitions.archive.content import (
    Rows,
    columns_of,
    content_of,
    copy_in,
    copy_out,
    longest_row,
)
from tenantry_partitions.archive.manifest import Manifest, manifest_path, parquet_path
from tenantry_partitions.session import database_time
from tenantry_schema.errors import ArchiveMismatch, RolloverFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

    from tenantry_partitions.archive.manifest import Content
    from tenantry_partitions.archive.store import Store, Upload
    from tenantry_partitions.inspect import Inspected
    from tenantry_partitions.steps import Step

_SCRATCH = sql.Identifier("pg_temp", "tenantry_scratch")
_BATCH = 5_000


@dataclass(frozen=True, slots=True)
class Archiver:
    """Archives partitions to a store."""

    store: Store

    def archive(
        self, conn: psycopg.Connection[Any], table: Inspected, step: Step, place: sql.Identifier
    ) -> str:
        """Archive a detached partition and prove it; return the path of its manifest.

        :param place: the partition
        :raises ArchiveMismatch: when what was read back is not what the server holds
        :raises RolloverFailed: when the store fails
        """
        state = table.state
        path = manifest_path(state.schema, state.table, step.partition)
        content = content_of(conn, place)
        found = self.store.manifest(path)
        if found is not None:
            _same(found, content)
            prove(conn, self.store, found)
            return path
        manifest = self._write(conn, table, step, place, content)
        prove(conn, self.store, manifest)
        self.store.put_manifest(manifest)
        return path

    def has(self, path: str) -> bool:
        """Say whether there is a manifest."""
        return self.store.manifest(path) is not None

    def check(self, conn: psycopg.Connection[Any], path: str, place: sql.Identifier) -> None:
        """Compare a partition with its archive's manifest, for the last time before the drop.

        :raises ArchiveMismatch: when there is none, or the partition holds something else
        """
        found = self.store.manifest(path)
        if found is None:
            raise ArchiveMismatch(f"manifest {path} is gone from {self.store.address}")
        _same(found, content_of(conn, place))

    def _write(
        self,
        conn: psycopg.Connection[Any],
        table: Inspected,
        step: Step,
        place: sql.Identifier,
        content: Content,
    ) -> Manifest:
        state = table.state
        columns = columns_of(conn, place)
        path = parquet_path(state.schema, state.table, step.partition)
        about = {"schema": state.schema, "table": state.table, "partition": step.partition}
        about |= {"from": step.start.isoformat(), "to": step.end.isoformat()}
        about |= {"rows": str(content.rows), "digest": content.digest}
        upload = self._upload_somehow(conn, place, path, columns, about)
        return Manifest(
            state.schema,
            state.table,
            step.partition,
            step.start,
            step.end,
            table.policy.control,
            columns,
            content,
            path,
            upload.size,
            upload.sha256,
            database_time(conn),
        )

    def _upload_somehow(
        self,
        conn: psycopg.Connection[Any],
        place: sql.Identifier,
        path: str,
        columns: tuple[tuple[str, str], ...],
        about: dict[str, str],
    ) -> Upload:
        reason: pa.ArrowException | None = None
        for schema, block in _ways(conn, place, columns):
            try:
                return self._upload(conn, place, path, schema, columns, about, block)
            except pa.ArrowException as error:
                reason = error
        raise RolloverFailed(
            f"{place.as_string(None)}: Parquet cannot hold its rows ({reason}): it stays, detached"
        ) from reason

    def _upload(  # noqa: PLR0913, PLR0917  where from, where to, and what it is called there
        self,
        conn: psycopg.Connection[Any],
        place: sql.Identifier,
        path: str,
        schema: pa.Schema,
        columns: tuple[tuple[str, str], ...],
        about: dict[str, str],
        block: int,
    ) -> Upload:
        with (
            self.store.upload(path) as upload,
            conn.cursor() as cursor,
            cursor.copy(copy_out(place, columns)) as copy,
            parquet.ParquetWriter(
                upload, schema, compression="zstd", use_dictionary=False
            ) as writer,
        ):
            rows = Rows(copy)
            # pyarrow refuses a file without a line.
            for group in row_groups(() if rows.empty else batches_from_csv(rows, schema, block)):
                writer.write_table(group)
            writer.add_key_value_metadata(
                {f"tenantry.{name}": value for name, value in about.items()}
            )
        return upload


def _ways(
    conn: psycopg.Connection[Any], place: sql.Identifier, columns: tuple[tuple[str, str], ...]
) -> Iterator[tuple[pa.Schema, int]]:
    """Yield schemas and sizes of blocks, from what suits nearly every table to what suits each."""
    yield arrow_schema(columns), BLOCK
    longest = longest_row(conn, place)
    if longest > BLOCK:
        yield arrow_schema(columns), BLOCK + longest
    # There is a value that only Postgres has, such as a date of the year infinity.
    yield arrow_schema(columns, plain=True), BLOCK + longest


def prove(conn: psycopg.Connection[Any], store: Store, manifest: Manifest) -> None:
    """Read an archive back, and let the server say what its rows are.

    :raises ArchiveMismatch: naming what differs
    """
    with (
        whole(store, manifest) as file,
        conn.transaction(),
        conn.cursor() as cursor,
    ):
        columns = sql.SQL(", ").join(
            sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(kind))
            for name, kind in manifest.columns
        )
        cursor.execute(
            sql.SQL("CREATE TEMPORARY TABLE tenantry_scratch ({}) ON COMMIT DROP").format(columns)
        )
        names = [name for name, _ in manifest.columns]
        copy_in(cursor, _SCRATCH, names, rows_of(file, manifest))
        _same(manifest, content_of(conn, _SCRATCH))


@contextmanager
def whole(store: Store, manifest: Manifest) -> Iterator[IO[bytes]]:
    """Give an archive's file back, if it is byte by byte what was written.

    :raises ArchiveMismatch: when it is not
    """
    with store.download(manifest.path) as found:
        if (found.size, found.sha256) != (manifest.size, manifest.sha256):
            raise ArchiveMismatch(
                f"{manifest.path} in {store.address} has {found.size} bytes of sha256 "
                f"{found.sha256[:12]}…, but {manifest.size} of {manifest.sha256[:12]}… were "
                "written: nothing is dropped"
            )
        yield found.file


def rows_of(file: IO[bytes], manifest: Manifest) -> Iterator[pa.RecordBatch]:
    """Yield the rows of an archive's file, a bounded number at once."""
    try:
        # One group after another: ahead of them pyarrow would read the whole file into memory.
        with parquet.ParquetFile(file, pre_buffer=False) as read:
            for group in range(read.num_row_groups):
                yield from read.read_row_group(group).to_batches(max_chunksize=_BATCH)
    except pa.ArrowException as error:
        raise ArchiveMismatch(f"{manifest.path} is no whole Parquet file: {error}") from error


def _same(manifest: Manifest, content: Content) -> None:
    if manifest.content != content:
        raise ArchiveMismatch(
            f"{manifest.name} says {manifest.content.rows} rows of digest "
            f"{manifest.content.digest}, but the server finds {content.rows} of {content.digest}: "
            "nothing is dropped"
        )
