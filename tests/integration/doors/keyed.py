"""A service's tables for each type of key that a tenant may have."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKeyConstraint,
    MetaData,
    Table,
    Text,
    Uuid,
    func,
)


def _tables(kind):
    """Return tenants and their notes, keyed by a type."""
    made = MetaData()
    key = {"primary_key": True, "autoincrement": False}
    Table("tenants", made, Column("tenant_id", kind, **key), Column("name", Text))
    Table(
        "notes",
        made,
        Column("tenant_id", kind, **key),
        Column("id", Uuid, primary_key=True, server_default=func.gen_random_uuid()),
        Column("body", Text),
        ForeignKeyConstraint(["tenant_id"], ["tenants.tenant_id"], name="notes_tenant_fkey"),
    )
    return made


uuid, bigint, text = _tables(Uuid()), _tables(BigInteger()), _tables(Text())
