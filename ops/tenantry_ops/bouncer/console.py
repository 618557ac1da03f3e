"""PgBouncer's console: its database ``pgbouncer``, which speaks no extended protocol.

psycopg prepares what it has sent a few times, and sends parameters apart from the statement; the
console ends the connection for either. So nothing is prepared here, and names are quoted as the
console reads them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, LiteralString, Self

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row

from tenantry.conninfo import parse, shown
from tenantry.sqlstates import first_line
from tenantry_ops.bouncer.ini import MAIN
from tenantry_ops.bouncer.versions import Version, parse_version
from tenantry_schema.errors import BouncerError, InvalidConfig

if TYPE_CHECKING:
    from tenantry_ops.bouncer.readback import Row

_PATIENCE_S = 5
_LONGEST = 63
_NOTHING_TO_RESUME = ("is not paused", "no such database")


class Console:
    """One connection to a console; a context manager.

    :param conninfo: where it is and who connects; the database is always ``pgbouncer``
    :raises BouncerError: when it does not answer
    :raises InvalidConfig: when what answers is no PgBouncer that is known
    """

    def __init__(self, conninfo: str) -> None:
        complete = console_conninfo(conninfo)
        self.where = shown(parse(complete))
        try:
            self.conn: psycopg.Connection[Row] = psycopg.connect(
                complete,
                autocommit=True,
                prepare_threshold=None,
                row_factory=dict_row,
            )
        except psycopg.OperationalError as error:
            raise BouncerError(
                f"the console at {self.where} does not answer ({first_line(error)}): check that "
                "PgBouncer runs there, and that the user is one of its admin_users"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.conn.close()

    @property
    def version(self) -> Version:
        """The version that runs."""
        told = self.conn.info.parameter_status("server_version") or ""
        if not told.endswith("/bouncer"):
            raise InvalidConfig(
                f"what answers at {self.where} says that it is {told!r:.40}, which is no PgBouncer"
            )
        return parse_version(told)

    def show(self, what: LiteralString) -> list[Row]:
        """Return the rows of ``SHOW …`` by the names of their columns."""
        return self._run(f"SHOW {what}").fetchall()

    def reload(self) -> None:
        """Let PgBouncer read its files anew; below 1.25 it does not say whether it could."""
        self._run("RELOAD")

    def resume(self, database: str) -> bool:
        """Resume a database; say whether it was paused."""
        try:
            self._run(command("RESUME", database))
        except BouncerError as error:
            if any(it in str(error) for it in _NOTHING_TO_RESUME):
                return False
            raise
        return True

    def paused(self) -> list[str]:
        """Return the databases that are paused, or about to be."""
        return [row["name"] for row in self.show("DATABASES") if row["paused"]]

    def _run(self, statement: LiteralString) -> psycopg.Cursor[Row]:
        try:
            return self.conn.execute(statement)
        except psycopg.Error as error:
            raise BouncerError(
                f"the console at {self.where} refused {statement!r}: {first_line(error)}"
            ) from error


def console_conninfo(conninfo: str) -> str:
    """Return a conninfo that leads to a console, and does not wait for ever."""
    given = parse(conninfo, "--console")
    return make_conninfo(**{"connect_timeout": _PATIENCE_S, **given, "dbname": MAIN})


def command(verb: LiteralString, database: str) -> Any:
    """Return a console's command on a database, with its name quoted as the console reads it.

    :raises InvalidConfig: for a name that no database can have
    """
    if not 1 <= len(database.encode()) <= _LONGEST or "\0" in database:
        raise InvalidConfig(
            f"a database of PgBouncer has a name of 1 to {_LONGEST} bytes, not {database!r:.80}"
        )
    return f'{verb} "{database.replace(chr(34), chr(34) * 2)}"'
