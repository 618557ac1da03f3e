"""The catalog's tables and grants."""

from __future__ import annotations

from alembic import op

from tenantry_schema.catalog import grant_statements, metadata

revision = "0001_catalog"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the catalog."""
    connection = op.get_bind()
    metadata.create_all(connection)
    for statement in grant_statements():
        connection.exec_driver_sql(statement.as_string(None))


def downgrade() -> None:
    """Drop the catalog's tables: the truth about placement goes with them."""
    metadata.drop_all(op.get_bind())
