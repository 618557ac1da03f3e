"""Run a history on one connection.

Alembic keeps its context in module globals, so one process runs one history at a time; whoever
migrates several databases at once starts a process for each.
"""

from __future__ import annotations

import os
from argparse import Namespace
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg import sql

from tenantry_schema.errors import InvalidConfig
from tenantry_schema.naming import ADMIN, OWNER, History

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from tenantry_schema.layout import Layout

VERSION_TABLE = "alembic_version"


def configured(history: History, connection: Connection | None, layout: Layout) -> Config:
    """Return Alembic's configuration of a history.

    :param layout: the tables that the shards hold, and the package of the service's own revisions
    :raises InvalidConfig: when that package cannot be imported
    """
    here = files(__package__).joinpath(history.value)
    places = [str(here.joinpath("versions"))]
    if history == History.SHARD and layout.migrations is not None:
        places.append(str(own_revisions(layout)))
    # Standard output is the answer of a command, in which Alembic has no say.
    config = Config(cmd_opts=Namespace(quiet=True))
    config.set_main_option("script_location", str(here))
    config.set_main_option("path_separator", "os")
    config.set_main_option("version_locations", os.pathsep.join(places))
    config.attributes["connection"] = connection
    config.attributes["layout"] = layout
    return config


def own_revisions(layout: Layout) -> Path:
    """Return the folder of a service's own revisions.

    :raises InvalidConfig: when its MetaData names none, or what it names cannot be imported
    """
    if layout.migrations is None:
        raise InvalidConfig(
            "the MetaData names no package for revisions: give it "
            'info={"tenantry": {"migrations": "service.migrations"}}'
        )
    try:
        package = import_module(layout.migrations)
    except ImportError as error:
        raise InvalidConfig(
            f"the package of revisions {layout.migrations!r:.80} cannot be imported: {error}"
        ) from error
    return Path(str(files(package)))


def upgrade(
    history: History, connection: Connection, layout: Layout, *, target: str = "heads"
) -> None:
    """Upgrade a database to a revision; doing it again does nothing.

    :param connection: a connection as a member of the owner's role, not in a transaction
    """
    become_owner(connection)
    connection.exec_driver_sql(
        sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(ADMIN)).as_string(None)
    )
    connection.commit()
    command.upgrade(configured(history, connection, layout), target)
    connection.commit()


def write_revision(connection: Connection, layout: Layout, message: str, *, empty: bool) -> Path:
    """Write a revision file into the service's package, and return its path.

    :param connection: a connection to an upgraded shard as a member of the owner's role
    :param empty: whether to leave its body to the author, instead of comparing the parents
    :raises InvalidConfig: when the MetaData names no package for it
    """
    folder = own_revisions(layout)
    become_owner(connection)
    connection.commit()
    script = command.revision(
        configured(History.SHARD, connection, layout),
        message,
        autogenerate=not empty,
        head="heads",
        version_path=str(folder),
    )
    written = script[0] if isinstance(script, list) else script
    assert written is not None
    return Path(written.path)


def become_owner(connection: Connection) -> None:
    """Act as the owner of everything, and find nothing by its bare name."""
    connection.exec_driver_sql(f"SET ROLE {OWNER}")
    connection.exec_driver_sql("SET search_path = ''")


def current_revisions(connection: Connection) -> tuple[str, ...]:
    """Return the newest revisions that a database says it has: more than one where lines meet."""
    context = MigrationContext.configure(
        connection, opts={"version_table": VERSION_TABLE, "version_table_schema": ADMIN}
    )
    return tuple(sorted(context.get_current_heads()))


def head_revisions(history: History, layout: Layout) -> tuple[str, ...]:
    """Return the newest revisions of a history."""
    scripts = ScriptDirectory.from_config(configured(history, None, layout))
    return tuple(sorted(scripts.get_heads()))
