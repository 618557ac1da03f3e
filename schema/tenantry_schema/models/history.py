"""Append-only history, partitioned by time inside each bucket.

No foreign keys: they would stall the making of partitions and refuse dropping them. The policy's
``WITH CHECK`` holds the tenant, and grants refuse every change.
"""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import CheckConstraint, Index, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from tenantry_schema.models.base import Base, Counter, Document, Id, Moment, TenantId
from tenantry_schema.states import transition_check


class Transition(Base):
    """One change of a task's state; ``step`` counts them, so no id of its own is needed."""

    __tablename__ = "transitions"

    tenant_id: Mapped[TenantId]
    at: Mapped[Moment] = mapped_column(
        primary_key=True, sort_order=-2, server_default=text("clock_timestamp()")
    )
    task_id: Mapped[Id]
    step: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    fence: Mapped[Counter]
    from_state: Mapped[str] = mapped_column(Text)
    to_state: Mapped[str] = mapped_column(Text)
    owner: Mapped[str | None] = mapped_column(Text)
    detail: Mapped[object | None] = mapped_column(JSONB)

    __table_args__ = (
        CheckConstraint(transition_check("(from_state || '>' || to_state)"), name="transition"),
        Index("transitions_task_idx", "tenant_id", "task_id", "step"),
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
