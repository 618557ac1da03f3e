"""Schedules: cron or interval; one fire makes one task, ever."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import CheckConstraint, DateTime, ForeignKeyConstraint, Index, Interval, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from tenantry_schema.models.base import (
    Base,
    Counter,
    Document,
    Id,
    Moment,
    Small,
    Stamp,
    TenantId,
    stored_size,
)
from tenantry_schema.models.tasks import PRIORITIES


class Schedule(Base):
    """When to make which task; ``fires`` counts, so that a fire is made once."""

    __tablename__ = "schedules"

    tenant_id: Mapped[TenantId]
    id: Mapped[Id]
    agent_id: Mapped[UUID | None]
    name: Mapped[str] = mapped_column(Text)
    cron: Mapped[str | None] = mapped_column(Text)
    every: Mapped[timedelta | None] = mapped_column(Interval)
    time_zone: Mapped[str] = mapped_column(Text, server_default="UTC")
    misfire: Mapped[str] = mapped_column(Text, server_default="once")
    grace: Mapped[timedelta] = mapped_column(Interval, server_default="1 minute")
    task_kind: Mapped[str] = mapped_column(Text)
    queue: Mapped[str] = mapped_column(Text, server_default="default")
    priority: Mapped[Small]
    payload: Mapped[Document]
    retry: Mapped[Document]
    next_fire: Mapped[Moment]
    fires: Mapped[Counter]
    paused_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    created_at: Mapped[Stamp]
    updated_at: Mapped[Stamp]

    __table_args__ = (
        ForeignKeyConstraint(["tenant_id"], ["tenants.tenant_id"], name="schedules_tenant_fkey"),
        ForeignKeyConstraint(
            ["tenant_id", "agent_id"],
            ["agents.tenant_id", "agents.id"],
            name="schedules_agent_fkey",
        ),
        CheckConstraint("(cron IS NULL) <> (every IS NULL)", name="cron_or_every"),
        CheckConstraint("every > interval '0'", name="every"),
        CheckConstraint("misfire IN ('skip', 'once', 'all')", name="misfire"),
        CheckConstraint("grace >= interval '0'", name="grace"),
        CheckConstraint("length(task_kind) BETWEEN 1 AND 200", name="task_kind"),
        CheckConstraint("length(queue) BETWEEN 1 AND 63 AND queue <> '*'", name="queue"),
        CheckConstraint(f"priority BETWEEN 0 AND {PRIORITIES - 1}", name="priority"),
        CheckConstraint(stored_size("payload"), name="size"),
        CheckConstraint("fires >= 0", name="fires"),
        Index("schedules_name_key", "tenant_id", "name", unique=True),
        Index(
            "schedules_due_idx",
            "tenant_id",
            "next_fire",
            postgresql_where=text("paused_at IS NULL"),
        ),
        {"info": {"tenantry": {"worker": ("tenant_id", "next_fire", "paused_at")}}},
    )
