"""What is known of an archived partition: nothing is dropped before it lies there. Pure."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from tenantry_schema.errors import ArchiveMismatch

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Content:
    """What a table holds, as its server says: equal contents have equal values.

    :ivar rows: how many
    :ivar digest: the sum of the hashes of its rows' texts, which their order does not change
    """

    rows: int
    digest: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """An archived partition.

    :ivar columns: (name, Postgres's type) in the order of the table
    :ivar path: of the Parquet file, in the store
    :ivar size: bytes of the file
    :ivar sha256: of the file
    :ivar written_at: the database's time
    """

    schema: str
    table: str
    partition: str
    start: datetime
    end: datetime
    control: str
    columns: tuple[tuple[str, str], ...]
    content: Content
    path: str
    size: int
    sha256: str
    written_at: datetime

    @property
    def name(self) -> str:
        """The path of the manifest."""
        return manifest_path(self.schema, self.table, self.partition)

    def text(self) -> str:
        """Return the manifest as it is stored."""
        held = {"format": FORMAT, **asdict(self)}
        return json.dumps(held, default=datetime.isoformat, indent=1, sort_keys=True)

    @classmethod
    def read(cls, text: str | bytes, where: str) -> Manifest:
        """Return the manifest that a text is.

        :param where: its path, for messages
        :raises ArchiveMismatch: when it is none, or of a later format
        """
        try:
            held: dict[str, Any] = json.loads(text)
            if held.pop("format") != FORMAT:
                raise ArchiveMismatch(
                    f"manifest {where} is of a later format: use a newer tenantry"
                )
            for name in ("start", "end", "written_at"):
                held[name] = datetime.fromisoformat(held[name])
            held["columns"] = tuple((name, kind) for name, kind in held["columns"])
            held["content"] = Content(**held["content"])
            return cls(**held)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ArchiveMismatch(f"{where} is no manifest: {error}") from error

    def as_row(self) -> dict[str, Any]:
        """Return what people want to see of it."""
        return {
            "manifest": self.name,
            "schema": self.schema,
            "table": self.table,
            "from": self.start,
            "to": self.end,
            "rows": self.content.rows,
            "bytes": self.size,
            "written at": self.written_at,
        }


def manifest_path(schema: str, table: str, partition: str) -> str:
    """Return where a partition's manifest lies in a store."""
    return f"{schema}/{table}/{partition}.json"


def parquet_path(schema: str, table: str, partition: str) -> str:
    """Return where a partition's rows lie in a store."""
    return f"{schema}/{table}/{partition}.parquet"
