"""Actors: registration, versioned state, and the generation that fences older incarnations."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, DateTime, ForeignKeyConstraint, Index, Text
from sqlalchemy.orm import Mapped, mapped_column

from tenantry_schema.models.base import Base, Counter, Document, Id, Stamp, TenantId, stored_size


class Actor(Base):
    """An actor and its last committed state; its mailbox is not stored."""

    __tablename__ = "actors"

    tenant_id: Mapped[TenantId]
    id: Mapped[Id]
    agent_id: Mapped[UUID]
    kind: Mapped[str] = mapped_column(Text)
    state: Mapped[Document]
    version: Mapped[Counter]
    generation: Mapped[Counter]
    created_at: Mapped[Stamp]
    updated_at: Mapped[Stamp]
    activated_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))

    __table_args__ = (
        ForeignKeyConstraint(["tenant_id"], ["tenants.tenant_id"], name="actors_tenant_fkey"),
        ForeignKeyConstraint(
            ["tenant_id", "agent_id"], ["agents.tenant_id", "agents.id"], name="actors_agent_fkey"
        ),
        CheckConstraint("length(kind) BETWEEN 1 AND 200", name="kind"),
        CheckConstraint("version >= 0", name="version"),
        CheckConstraint("generation >= 0", name="generation"),
        CheckConstraint(stored_size("state"), name="size"),
        Index("actors_agent_idx", "tenant_id", "agent_id"),
        # No index holds the state, so saving it rewrites one page where that has room.
        {"info": {"tenantry": {"storage": {"fillfactor": 70}}}},
    )
