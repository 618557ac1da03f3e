"""Tenants, the root of every foreign key of a bucket, and their agents."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, DateTime, ForeignKeyConstraint, Index, Text
from sqlalchemy.orm import Mapped, mapped_column

from tenantry_schema.models.base import Base, Counter, Document, Id, Stamp, TenantId


class Tenant(Base):
    """The tenant's own row in its bucket: a row for a tenant that does not live here is refused."""

    __tablename__ = "tenants"

    tenant_id: Mapped[TenantId]
    name: Mapped[str] = mapped_column(Text)
    created_at: Mapped[Stamp]

    __table_args__ = (CheckConstraint("length(name) BETWEEN 1 AND 63", name="name"),)


class Agent(Base):
    """An agent's metadata, versioned for optimistic updates."""

    __tablename__ = "agents"

    tenant_id: Mapped[TenantId]
    id: Mapped[Id]
    name: Mapped[str] = mapped_column(Text)
    kind: Mapped[str] = mapped_column(Text, server_default="agent")
    metadata_: Mapped[Document] = mapped_column("metadata")
    version: Mapped[Counter]
    created_at: Mapped[Stamp]
    updated_at: Mapped[Stamp]
    retired_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))

    __table_args__ = (
        ForeignKeyConstraint(["tenant_id"], ["tenants.tenant_id"], name="agents_tenant_fkey"),
        CheckConstraint("length(name) BETWEEN 1 AND 200", name="name"),
        CheckConstraint("version >= 0", name="version"),
        # A call routed by the agent's id finds the tenant by it.
        Index("agents_id_idx", "id"),
    )
