"""Task graphs: tasks that are claimed by a lease with a fencing number, and their edges.

The hot table is narrow and never partitioned by state. The database checks what a state implies: a
running task has an owner and a lease, a waiting one has unmet dependencies.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, DateTime, ForeignKeyConstraint, Index, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from tenantry_schema.models.base import (
    Base,
    Counter,
    Document,
    Id,
    Small,
    Stamp,
    TenantId,
    Whole,
)

STATES = ("waiting", "ready", "running", "done", "failed", "skipped", "cancelled", "dead")


class Task(Base):
    """One task of a tenant."""

    __tablename__ = "tasks"

    tenant_id: Mapped[TenantId]
    id: Mapped[Id]
    agent_id: Mapped[UUID | None]
    queue: Mapped[str] = mapped_column(Text, server_default="default")
    kind: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text, server_default="ready")
    priority: Mapped[Small]
    unmet: Mapped[Whole]
    attempt: Mapped[Small]
    max_attempts: Mapped[int] = mapped_column(server_default="1")
    fence: Mapped[Counter]
    owner: Mapped[str | None] = mapped_column(Text)
    lease_until: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    run_after: Mapped[Stamp]
    deadline: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    idempotency_key: Mapped[str | None] = mapped_column(Text)
    payload: Mapped[Document]
    result: Mapped[object | None] = mapped_column(JSONB)
    created_at: Mapped[Stamp]
    updated_at: Mapped[Stamp]

    __table_args__ = (
        ForeignKeyConstraint(["tenant_id"], ["tenants.tenant_id"], name="tasks_tenant_fkey"),
        ForeignKeyConstraint(
            ["tenant_id", "agent_id"], ["agents.tenant_id", "agents.id"], name="tasks_agent_fkey"
        ),
        CheckConstraint(f"state IN {STATES!r}", name="state"),
        CheckConstraint("length(kind) BETWEEN 1 AND 200", name="kind"),
        CheckConstraint("length(queue) BETWEEN 1 AND 63", name="queue"),
        CheckConstraint("priority >= 0", name="priority"),
        CheckConstraint("unmet >= 0 AND (state <> 'ready' OR unmet = 0)", name="unmet"),
        CheckConstraint("attempt >= 0 AND max_attempts >= 1", name="attempt"),
        CheckConstraint("fence >= 0", name="fence"),
        CheckConstraint(
            "(state = 'running') = (owner IS NOT NULL AND lease_until IS NOT NULL)", name="lease"
        ),
        Index(
            "tasks_idempotency_key",
            "tenant_id",
            "idempotency_key",
            unique=True,
            postgresql_where=text("idempotency_key IS NOT NULL"),
        ),
        Index(
            "tasks_ready_idx",
            "tenant_id",
            "queue",
            text("priority DESC"),
            "run_after",
            postgresql_where=text("state = 'ready'"),
        ),
        Index(
            "tasks_lease_idx",
            "tenant_id",
            "lease_until",
            postgresql_where=text("state = 'running'"),
        ),
        Index("tasks_agent_idx", "tenant_id", "agent_id"),
    )


class TaskEdge(Base):
    """``task_id`` may start only when ``needs_id`` is done."""

    __tablename__ = "task_edges"

    tenant_id: Mapped[TenantId]
    task_id: Mapped[UUID] = mapped_column(primary_key=True)
    needs_id: Mapped[UUID] = mapped_column(primary_key=True)
    on_failure: Mapped[str] = mapped_column(Text, server_default="fail")

    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "task_id"],
            ["tasks.tenant_id", "tasks.id"],
            name="task_edges_task_fkey",
            ondelete="CASCADE",
        ),
        ForeignKeyConstraint(
            ["tenant_id", "needs_id"],
            ["tasks.tenant_id", "tasks.id"],
            name="task_edges_needs_fkey",
            ondelete="CASCADE",
        ),
        ForeignKeyConstraint(["tenant_id"], ["tenants.tenant_id"], name="task_edges_tenant_fkey"),
        CheckConstraint("task_id <> needs_id", name="not_itself"),
        CheckConstraint("on_failure IN ('fail', 'skip', 'ignore')", name="on_failure"),
        Index("task_edges_needs_idx", "tenant_id", "needs_id"),
    )
