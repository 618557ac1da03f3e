"""Compare what PgBouncer runs with what its file says: pure.

Rows are read by the names of their columns: new versions insert columns in the middle. Some of a
file is shown by no PgBouncer (``connect_query``, ``auth_user`` of an entry) and cannot be compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from tenantry_ops.bouncer.connstr import parse_pairs
from tenantry_ops.bouncer.ini import DATABASES, MAIN, Ini
from tenantry_ops.bouncer.table import keys_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tenantry_ops.bouncer.versions import Version

Row = dict[str, Any]

#: key of an entry -> columns of SHOW DATABASES that may show it, and what stands for "not given".
_SHOWN: dict[str, tuple[tuple[str, ...], str | None]] = {
    "host": (("host",), None),
    "port": (("port",), "5432"),
    "dbname": (("database",), None),
    "user": (("force_user",), None),
    "pool_mode": (("pool_mode",), None),
    "pool_size": (("pool_size",), "default_pool_size"),
    "min_pool_size": (("min_pool_size",), "min_pool_size"),
    "reserve_pool": (("reserve_pool_size", "reserve_pool"), "reserve_pool_size"),
    "max_db_connections": (("max_connections",), "max_db_connections"),
}


class Mismatch(NamedTuple):
    """One thing that does not run as the file says.

    :ivar restart: whether only a restart can bring it into force
    """

    where: str
    expected: str | None
    found: str | None
    restart: bool = False


def compare(
    ini: Ini, config: Sequence[Row], databases: Sequence[Row], version: Version
) -> list[Mismatch]:
    """Return where the running PgBouncer differs from a file.

    :param config: rows of ``SHOW CONFIG``
    :param databases: rows of ``SHOW DATABASES``
    """
    running = {row["key"]: row for row in config}
    return [*_config(ini, running, version), *_databases(ini, running, databases)]


def _config(ini: Ini, running: dict[str, Row], version: Version) -> Iterator[Mismatch]:
    given = ini.section(MAIN)
    for name, key in keys_of(version).items():
        row = running.get(name)
        if row is None:
            continue
        # A key that has no default keeps what it was until a restart.
        expected = given.get(name, row["default"])
        if not key.same(expected, row["value"]):
            keeps = name not in given and key.default is None
            yield Mismatch(
                f"[{MAIN}] {name}", expected, row["value"], restart=not key.reload or keeps
            )


def _databases(ini: Ini, running: dict[str, Row], rows: Sequence[Row]) -> Iterator[Mismatch]:
    there = {row["name"]: row for row in rows if row["name"] != MAIN}
    given = ini.section(DATABASES)
    for name in sorted(given.keys() | there.keys()):
        where = f"[{DATABASES}] {name}"
        row = there.get(name)
        if row is None or name not in given:
            yield Mismatch(where, _said(name in given), _said(row is not None))
            continue
        yield from _entry(where, name, parse_pairs(given[name]), row, running)


def _entry(
    where: str, name: str, pairs: dict[str, str], row: Row, running: dict[str, Row]
) -> Iterator[Mismatch]:
    given = {**pairs, "dbname": pairs.get("dbname", name)}
    if "reserve_pool_size" in given:
        given["reserve_pool"] = given["reserve_pool_size"]
    for key, (columns, otherwise) in _SHOWN.items():
        column = next((it for it in columns if it in row), None)
        if column is None:
            continue
        default = running[otherwise]["value"] if otherwise in running else otherwise
        expected, found = given.get(key, default), _text(row[column])
        if expected != found:
            yield Mismatch(
                f"{where}: {key}", expected, found, restart=key == "user" and expected is None
            )


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _said(there: bool) -> str | None:  # noqa: FBT001  it is the value itself
    return "an entry" if there else None
