"""What Alembic's ``env.py`` of both histories does: migrate the connection that it was given."""

from __future__ import annotations

from alembic import context

from tenantry_schema.migrations.running import VERSION_TABLE
from tenantry_schema.naming import ADMIN

LOCK_TIMEOUT = "200ms"


def run() -> None:
    """Run the history's revisions, each in a transaction of its own."""
    connection = context.config.attributes["connection"]
    # A migration that waits for a lock makes every later writer wait behind it.
    connection.exec_driver_sql(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
    connection.commit()
    context.configure(
        connection=connection,
        version_table=VERSION_TABLE,
        version_table_schema=ADMIN,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()
