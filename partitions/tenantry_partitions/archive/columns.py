"""Which Parquet type a Postgres type becomes, and rows between COPY's CSV and Arrow.

What has no exact counterpart is kept as the text that Postgres prints, which it reads again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import csv

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_TYPES: dict[str, pa.DataType] = {
    "boolean": pa.bool_(),
    "smallint": pa.int16(),
    "integer": pa.int32(),
    "bigint": pa.int64(),
    "timestamp with time zone": pa.timestamp("us", tz="UTC"),
    "timestamp without time zone": pa.timestamp("us"),
    "date": pa.date32(),
    "double precision": pa.float64(),
}
#: Bytes that are parsed at once. Several blocks are in flight: they are what memory is bounded by.
BLOCK = 1024 * 1024
_ROW_GROUP = 8 * 1024 * 1024


def arrow_schema(columns: Sequence[tuple[str, str]], *, plain: bool = False) -> pa.Schema:
    """Return the schema of a table's Parquet file.

    :param columns: (name, Postgres's type)
    :param plain: everything as text, for values that only Postgres has, such as ``infinity``
    """
    fields = [
        pa.field(name, pa.string() if plain else _TYPES.get(kind, pa.string()))
        for name, kind in columns
    ]
    return pa.schema(fields)


def batches_from_csv(
    source: Any, schema: pa.Schema, block: int = BLOCK
) -> Iterator[pa.RecordBatch]:
    """Yield rows that ``COPY … TO STDOUT (FORMAT csv)`` gives, a bounded number at once.

    :param source: a file that is read once, from its beginning
    :param block: bytes; a row that is longer than two of them is refused
    """
    with csv.open_csv(
        source,
        read_options=csv.ReadOptions(column_names=schema.names, block_size=block),
        parse_options=csv.ParseOptions(newlines_in_values=True),
        convert_options=csv.ConvertOptions(
            column_types=schema,
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            true_values=["t"],
            false_values=["f"],
        ),
    ) as reader:
        yield from reader


def row_groups(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Yield batches together, in sizes that a reader of Parquet skips or reads at once."""
    held: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        held.append(batch)
        size += batch.nbytes
        if size >= _ROW_GROUP:
            yield pa.Table.from_batches(held)
            held, size = [], 0
    if held:
        yield pa.Table.from_batches(held)


def csv_of(batch: pa.RecordBatch) -> memoryview:
    """Return rows as ``COPY … FROM STDIN (FORMAT csv)`` takes them."""
    sink = pa.BufferOutputStream()
    csv.write_csv(batch, sink, csv.WriteOptions(include_header=False))
    return memoryview(sink.getvalue())
