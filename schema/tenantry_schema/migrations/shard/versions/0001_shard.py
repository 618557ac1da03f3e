"""A shard's schemas, facts and parents, for the layout that the fleet holds."""

from __future__ import annotations

from alembic import context, op

from tenantry_schema.layout import shard_statements

revision = "0001_shard"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the shard's schemas and parents."""
    connection = op.get_bind()
    for statement in shard_statements(context.config.attributes["layout"]):
        connection.exec_driver_sql(statement.as_string(None).replace("%", "%%"))


def downgrade() -> None:
    """Refuse: the parents hold every tenant's rows."""
    raise RuntimeError("the first revision of a shard is not taken back: drop its database")
