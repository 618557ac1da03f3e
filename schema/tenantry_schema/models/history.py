"""Append-only history, partitioned by time inside each bucket.

No foreign keys: they would stall the making of partitions and refuse dropping them. The policy's
``WITH CHECK`` holds the tenant, and grants refuse every change.
"""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import Index, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from tenantry_schema.models.base import Base, Counter, Document, Id, Moment, TenantId


class Transition(Base):
    """One change of a task's state."""

    __tablename__ = "transitions"

    tenant_id: Mapped[TenantId]
    at: Mapped[Moment] = mapped_column(
        primary_key=True, sort_order=-2, server_default=text("clock_timestamp()")
    )
    id: Mapped[Id]
    task_id: Mapped[UUID]
    from_state: Mapped[str | None] = mapped_column(Text)
    to_state: Mapped[str] = mapped_column(Text)
    owner: Mapped[str | None] = mapped_column(Text)
    fence: Mapped[Counter]
    detail: Mapped[object | None] = mapped_column(JSONB)

    __table_args__ = (
        Index("transitions_task_idx", "tenant_id", "task_id", "at"),
        {"info": {"tenantry": {"time": "at", "interval": "1 week"}}},
    )


class Log(Base):
    """One line of an execution's log: less sacred, archived to object storage."""

    __tablename__ = "logs"

    tenant_id: Mapped[TenantId]
    at: Mapped[Moment] = mapped_column(
        primary_key=True, sort_order=-2, server_default=text("clock_timestamp()")
    )
    id: Mapped[Id]
    task_id: Mapped[UUID | None]
    agent_id: Mapped[UUID | None]
    level: Mapped[str] = mapped_column(Text, server_default="info")
    message: Mapped[str] = mapped_column(Text)
    fields: Mapped[Document]

    __table_args__ = (
        Index("logs_task_idx", "tenant_id", "task_id", "at"),
        {"info": {"tenantry": {"time": "at", "interval": "1 week"}}},
    )
