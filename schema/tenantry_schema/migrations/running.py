"""Run a history on one connection.

Alembic keeps its context in module globals, so one process runs one history at a time; whoever
migrates several databases at once starts a process for each.
"""

from __future__ import annotations

from enum import StrEnum
from importlib.resources import files
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg import sql

from tenantry_schema.naming import ADMIN, OWNER

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from tenantry_schema.layout import Layout

VERSION_TABLE = "alembic_version"


class History(StrEnum):
    """Which database a history is for."""

    CATALOG = "catalog"
    SHARD = "shard"


def configured(history: History, connection: Connection | None, layout: Layout) -> Config:
    """Return Alembic's configuration of a history.

    :param layout: the tables that the shards hold
    """
    config = Config()
    config.set_main_option("script_location", str(files(__package__).joinpath(history.value)))
    config.attributes["connection"] = connection
    config.attributes["layout"] = layout
    return config


def upgrade(
    history: History, connection: Connection, layout: Layout, *, target: str = "head"
) -> None:
    """Upgrade a database to a revision; doing it again does nothing.

    :param connection: a connection as a member of the owner's role, not in a transaction
    """
    for statement in (
        sql.SQL("SET ROLE {}").format(sql.Identifier(OWNER)),
        sql.SQL("SET search_path = ''"),
        sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(ADMIN)),
    ):
        connection.exec_driver_sql(statement.as_string(None))
    connection.commit()
    command.upgrade(configured(history, connection, layout), target)
    connection.commit()


def current_revision(connection: Connection) -> str | None:
    """Return the revision that a database says it has."""
    context = MigrationContext.configure(
        connection, opts={"version_table": VERSION_TABLE, "version_table_schema": ADMIN}
    )
    return context.get_current_revision()


def head_revision(history: History) -> str | None:
    """Return the newest revision of a history."""
    location = str(files(__package__).joinpath(history.value))
    return ScriptDirectory(location).get_current_head()
