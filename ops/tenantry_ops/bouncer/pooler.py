"""One PgBouncer: how its console is reached, and where its files lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from psycopg.conninfo import make_conninfo

from tenantry_ops.bouncer.auth import PASSFILE
from tenantry_ops.bouncer.console import Console
from tenantry_ops.bouncer.files import read_file
from tenantry_ops.bouncer.ini import MAIN, Ini, parse_ini
from tenantry_ops.bouncer.render import CONSOLE_USER, INI
from tenantry_schema.errors import InvalidConfig

if TYPE_CHECKING:
    from pathlib import Path


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
        main = there(directory).section(MAIN)
        host = main.get("unix_socket_dir") or main.get("listen_addr", "").split(",")[0]
        if not host:
            raise InvalidConfig(
                f"{directory / INI} gives neither unix_socket_dir nor listen_addr: name the "
                "console with --console"
            )
        conninfo = make_conninfo(
            host=host,
            port=main.get("listen_port", "6432"),
            user=CONSOLE_USER,
            dbname=MAIN,
            passfile=str(directory / PASSFILE),
        )
        return cls(conninfo, directory)

    def open(self) -> Console:
        """Connect to the console."""
        return Console(self.console)


def there(directory: Path) -> Ini:
    """Read the configuration that lies in a folder.

    :raises InvalidConfig: when there is none, or PgBouncer could not read it
    """
    text = read_file(directory / INI)
    if text is None:
        raise InvalidConfig(
            f"there is no {INI} in {directory}: write one with `tenantry bouncer render`"
        )
    found = parse_ini(text.decode(errors="surrogateescape"))
    if found.fault is not None:
        raise InvalidConfig(f"{directory / INI}, line {found.fault.line}: {found.fault.problem}")
    return found
