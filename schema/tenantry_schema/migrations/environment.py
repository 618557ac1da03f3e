"""What Alembic's ``env.py`` of both histories does: migrate the connection that it was given."""

from __future__ import annotations

from alembic import context

from tenantry_schema.layout.ddl import parent_metadata
from tenantry_schema.migrations.autogenerate import in_words_of_buckets, is_ours
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
        target_metadata=parent_metadata(context.config.attributes["layout"]),
        include_schemas=True,
        include_name=is_ours,
        process_revision_directives=in_words_of_buckets,
        version_table=VERSION_TABLE,
        version_table_schema=ADMIN,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()
