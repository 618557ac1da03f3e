"""Read and write pg_partman's ``part_config``, in whatever schema and version it is."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from psycopg import sql

from tenantry_partitions.partman.config import PartmanSet
from tenantry_schema.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Mapping

    import psycopg

_FIND = """
SELECT nspname::text, extversion
FROM pg_catalog.pg_extension JOIN pg_catalog.pg_namespace AS place ON place.oid = extnamespace
WHERE extname = 'pg_partman'
"""
_COLUMNS = """
SELECT attname::text FROM pg_catalog.pg_attribute
WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped
"""


@dataclass(frozen=True, slots=True)
class Extension:
    """Where pg_partman is installed, and which version."""

    schema: str
    version: str

    @property
    def major(self) -> int:
        """The major version."""
        return int(self.version.partition(".")[0])

    @property
    def config(self) -> sql.Identifier:
        """The name of its table of sets."""
        return sql.Identifier(self.schema, "part_config")


def find_extension(conn: psycopg.Connection[Any]) -> Extension:
    """Return where pg_partman is.

    :raises NotFound: when it is not installed in the database
    """
    found = conn.execute(_FIND).fetchone()
    if found is None:
        raise NotFound(
            "pg_partman is not installed in this database: CREATE EXTENSION it, or do without"
        )
    return Extension(*found)


def read_sets(conn: psycopg.Connection[Any], extension: Extension) -> list[PartmanSet]:
    """Return every set that pg_partman keeps."""
    columns = sql.SQL(", ").join(sql.Identifier(field.name) for field in fields(PartmanSet))
    rows = conn.execute(
        sql.SQL("SELECT {} FROM {} ORDER BY parent_table").format(columns, extension.config)
    )
    return [PartmanSet(*row) for row in rows]


def write_set(conn: psycopg.Connection[Any], extension: Extension, row: Mapping[str, Any]) -> None:
    """Write a set, or correct it: only columns that this version has, the others as they are."""
    known = {name for (name,) in conn.execute(_COLUMNS, (extension.config.as_string(None),))}
    given = {name: value for name, value in row.items() if name in known}
    columns = sql.SQL(", ").join(map(sql.Identifier, given))
    values = sql.SQL(", ").join(map(sql.Placeholder, given))
    conn.execute(
        sql.SQL(
            "INSERT INTO {table} ({columns}) VALUES ({values})"
            " ON CONFLICT (parent_table) DO UPDATE SET ({columns}) = ROW ({values})"
        ).format(table=extension.config, columns=columns, values=values),
        given,
    )


def set_automatic(
    conn: psycopg.Connection[Any], extension: Extension, name: str, *, on: bool
) -> None:
    """Say whether pg_partman's maintenance of all sets does this one."""
    conn.execute(
        sql.SQL("UPDATE {} SET automatic_maintenance = %s WHERE parent_table = %s").format(
            extension.config
        ),
        ("on" if on else "off", name),
    )
