"""One PgBouncer: how its console is reached, and where its files lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from psycopg.conninfo import make_conninfo

from tenantry.conninfo import parse
from tenantry_ops.bouncer.console import Console
from tenantry_ops.bouncer.ini import MAIN
from tenantry_ops.bouncer.lying import read_ini
from tenantry_ops.bouncer.render import CONSOLE_USER, INI, PASSFILE
from tenantry_schema.errors import InvalidConfig

if TYPE_CHECKING:
    from pathlib import Path

_EVERYWHERE = frozenset({"*", "0.0.0.0"})  # noqa: S104  compared, not listened on


@dataclass(frozen=True, slots=True)
class Pooler:
    """One PgBouncer.

    :ivar console: conninfo of its console
    :ivar directory: the folder of its files, or None when they lie on another machine
    """

    console: str
    directory: Path | None = None

    @classmethod
    def at(cls, directory: Path) -> Self:
        """Find the console of the PgBouncer whose files are in a folder.

        :raises InvalidConfig: when there are none, or PgBouncer could not read them
        """
        main = read_ini(directory).section(MAIN)
        host = main.get("unix_socket_dir") or main.get("listen_addr", "").split(",")[0].strip()
        if not host:
            raise InvalidConfig(
                f"{directory / INI} gives neither unix_socket_dir nor listen_addr: name the "
                "console with --console"
            )
        conninfo = make_conninfo(
            host="127.0.0.1" if host in _EVERYWHERE else host,
            port=main.get("listen_port", "6432"),
            user=CONSOLE_USER,
            dbname=MAIN,
            passfile=str(directory / PASSFILE),
        )
        return cls(conninfo, directory)

    @property
    def port(self) -> int:
        """The port of its console, and of its databases."""
        return int(parse(self.console).get("port") or 5432)

    def open(self) -> Console:
        """Connect to the console."""
        return Console(self.console)
